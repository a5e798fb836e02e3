/* Which columns and arrays become what: by name, by order, by --target, --features and --drop, and as the
 * training data had it. */
#include "data_test.h"

/* Two values in, one out; both floats. */
static const ckpt_data_request want_xy2[2] = {{.name = "x", .values = 2},
                                              {.name = "y", .role = CKPT_DATA_TARGET, .values = 1}};

/* The columns of x and y, and what is left. */
static void expect_columns(const char *text, const ckpt_data_options *options, const char *x, const char *y,
                           const char *dropped, const char *unused) {
    ckpt_dataset set = load_csv_with(text, want_xy2, 2, options);
    assert_true(set.has_columns);
    expect_names(&set.arrays[0].from, x);
    expect_names(&set.arrays[1].from, y);
    expect_names(&set.dropped, dropped);
    expect_names(&set.unused, unused);
    ckpt_dataset_free(&set);
}

static void test_names(void **state) {
    (void)state;
    expect_columns("a,b,y\n1,2,3\n", NULL, "a|b", "y", "", "");
    expect_columns("y,a,b\n1,2,3\n", NULL, "a|b", "y", "", "");
    expect_columns("id,x0,x1,Target\n1,2,3,4\n", NULL, "x0|x1", "Target", "", "id");
    expect_columns("x10,note,x9,class\n1,word,3,4\n", NULL, "x9|x10", "class", "",
                   "note"); /* by number; no cell of `note` is read */
    expect_columns(",X_1,X_2,label\n0,2,3,4\n", NULL, "X_1|X_2", "label", "", "Unnamed: 0");
    expect_columns(",Unnamed: 0,a,b,y\n0,0,2,3,4\n", &(ckpt_data_options){.drop = "Unnamed: 0"}, "a|b", "y",
                   "Unnamed: 0|Unnamed: 0", "");
    expect_columns("x0,x1,y,\n1,2,3,\n", NULL, "x0|x1", "y", "", "Unnamed: 3");
    ckpt_dataset set = load_csv("x1,x0,y\n1,2,3\n4,5,6\n", want_xy2, 2);
    expect_floats(&set.arrays[0], (const float[]){2, 1, 5, 4}, 4);
    expect_floats(&set.arrays[1], (const float[]){3, 6}, 2);
    ckpt_dataset_free(&set);
}

static void test_options(void **state) {
    (void)state;
    expect_columns("a,b,price\n1,2,3\n", &(ckpt_data_options){.target = "price"}, "a|b", "price", "", "");
    expect_columns("a,y,b\n1,2,3\n", &(ckpt_data_options){.target = "b"}, "a|y", "b", "", "");
    expect_columns("id,a,b,y\nr1,2,3,4\n", &(ckpt_data_options){.drop = "id"}, "a|b", "y", "id", "");
    expect_columns(",a,b,y\n0,2,3,4\n", &(ckpt_data_options){.drop = "0"}, "a|b", "y", "Unnamed: 0", "");
    expect_columns("a,t1,b,t2,y\n1,NA,3,,5\n", &(ckpt_data_options){.drop = "t*"}, "a|b", "y", "t1|t2", "");
    expect_columns("a,b,c,d,y\n1,2,3,4,5\n", &(ckpt_data_options){.features = "d, b"}, "d|b", "y", "", "a|c");
    expect_columns("a,b,c,d,y\n1,2,3,4,5\n", &(ckpt_data_options){.features = "2-3", .target = "a"}, "c|d",
                   "a", "", "b|y");
    expect_columns("x0,x1,c,y\n1,2,3,4\n", &(ckpt_data_options){.features = "x1,c"}, "x1|c", "y", "",
                   "x0"); /* the list, not the name */
    expect_columns("a,label,b,y\n1,2,3,4\n", &(ckpt_data_options){.target = "y", .drop = "label"}, "a|b", "y",
                   "label", "");
    ckpt_dataset set = load_csv_with("a,b,c,d,y\n1,2,3,4,5\n6,7,8,9,0\n", want_xy2, 2,
                                     &(ckpt_data_options){.features = "d,b", .target = "c"});
    expect_floats(&set.arrays[0], (const float[]){4, 2, 9, 7}, 4);
    expect_floats(&set.arrays[1], (const float[]){3, 8}, 2);
    ckpt_dataset_free(&set);
}

static void test_option_errors(void **state) {
    (void)state;
    static const struct {
        const char *text;
        ckpt_data_options options;
        const char *message;
    } cases[] = {
        {"a,b,y\n1,2,3\n",
         {.target = "price"},
         "no column is named 'price' in --target; the nearest are 'a' (0), 'b' (1), 'y' (2)"},
        {"a,b,y\n1,2,3\n", {.drop = "7"}, "'7' in --drop is out of range: there are columns 0 to 2"},
        {"a,b,y\n1,2,3\n", {.drop = "a,,b"}, "--drop 'a,,b' has an item that is empty"},
        {"a,b,y\n1,2,3\n",
         {.drop = "y", .target = "y"},
         "line 1: column 'y' is in --target and in --drop; leave it out of one"},
        {"a,b,y\n1,2,3\n",
         {.features = "*"},
         "line 1: column 'y' is in --features and is the target too; leave it out of one"},
        {"a,b,y\n1,2,3\n",
         {.features = "a,y", .target = "y"},
         "line 1: column 'y' is in --features and is the target too; leave it out of one"},
        {"a,b,y\n1,2,3\n",
         {.features = "a"},
         "line 1: the model's input 'x' takes 2 columns; named 'x0', 'x1' and so on there are none, and left "
         "are 1, 'a'; choose with "
         "--features, or leave some out with --drop"},
        {"a,b,y\n1,2,3\n",
         {.target = "a,y"},
         "array 'y' has 2 values a sample (shape [1,2]); the target 'y' takes 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[CKPT_MESSAGE_SIZE] = "t.csv: ";
        if (i == 7)
            expect_csv_error_with(cases[i].text,
                                  (const ckpt_data_request[]){{.name = "x", .values = 1}, want_xy2[1]}, 2,
                                  &cases[i].options, strcat(message, cases[i].message));
        else
            expect_csv_error_with(cases[i].text, want_xy2, 2, &cases[i].options,
                                  strcat(message, cases[i].message));
    }
}

/* Several inputs take what is called like them, and then what is left, each as many as it has values. */
static void test_several_inputs(void **state) {
    (void)state;
    const ckpt_data_request want[4] = {
        {.name = "a", .values = 1},
        {.name = "b", .values = 2},
        {.name = "c", .want = CKPT_WANT_INTEGER, .values = 1, .integer_values = 1},
        {.name = "y", .role = CKPT_DATA_TARGET}};
    static const char *const files[][4] = {
        {"p,q,r,s,y\n1,2,3,4,5\n", "p", "q|r", "s"},
        {"c,p,b_1,b_0,y\n1,2,3,4,5\n", "p", "b_0|b_1", "c"},
        {"p,q,A,s,y\n1,2,3,4,5\n", "A", "p|q", "s"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        ckpt_dataset set = load_csv(files[i][0], want, 4);
        for (size_t a = 0; a < 3; a++) expect_names(&set.arrays[a].from, files[i][a + 1]);
        ckpt_dataset_free(&set);
    }
    expect_csv_error("p,q,r,s,t,y\n1,2,3,4,5,6\n", want, 4,
                     "t.csv: line 1: the model's input 'a' takes 1 column; named 'a0', 'a1' and so on there "
                     "are none, and left are 5, 'p', "
                     "'q', 'r', 's', 't'; choose with --features, or leave some out with --drop");
}

/* Several targets have names of their own, or the order of --target; what one target is usually called is no
 * name of theirs. */
static void test_several_targets(void **state) {
    (void)state;
    const ckpt_data_request want[3] = {
        {.name = "x", .values = 1},
        {.name = "y_kind", .aliases = {"kind"}, .role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER},
        {.name = "y_size", .aliases = {"size"}, .role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER}};
    static const struct {
        const char *text, *target, *from[3];
    } files[] = {{"size,x,kind\n1,2,3\n", NULL, {"x", "kind", "size"}},
                 {"a,b,c\n1,2,3\n", "c,a", {"b", "c", "a"}},
                 {"a,size,c\n1,2,3\n", "size,a", {"c", "a", "size"}}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        ckpt_dataset set =
            load_csv_with(files[i].text, want, 3, &(ckpt_data_options){.target = files[i].target});
        for (size_t a = 0; a < 3; a++) expect_names(&set.arrays[a].from, files[i].from[a]);
        ckpt_dataset_free(&set);
    }
    expect_csv_error(
        "x,y,kind\n1,2,3\n", want, 3,
        "t.csv: line 1: which column is the target? None is named 'y_size', 'size'; it has 'x', 'y', "
        "'kind'; choose with --target NAME");
    expect_csv_error_with("x,a,b,c\n1,2,3,4\n", want, 3, &(ckpt_data_options){.target = "a,b,c"},
                          "t.csv: line 1: the target 'y_kind' takes its own columns; named 'y_kind0', "
                          "'y_kind1' and so on there are none, and left "
                          "are 3, 'a', 'b', 'c'; choose with --target");
    ckpt_dataset set = load_csv("x,kind,size\n1,a,big\n2,b,big\n3,a,small\n", want, 3);
    expect_names(&set.arrays[1].classes, "a|b");
    expect_names(&set.arrays[2].classes, "big|small");
    expect_integers(&set.arrays[2], (const int64_t[]){0, 0, 1}, 3);
    ckpt_dataset_free(&set);
}

/* An autoencoder's target is its input: only where both are asked for. */
static void test_input_as_target(void **state) {
    (void)state;
    const ckpt_data_request want[2] = {{.name = "x", .values = 2},
                                       {.name = "y", .role = CKPT_DATA_TARGET, .values = 2}};
    ckpt_dataset set =
        load_csv_with("a,b\n1,2\n", want, 2, &(ckpt_data_options){.target = "a,b", .features = "a,b"});
    expect_floats(&set.arrays[0], (const float[]){1, 2}, 2);
    expect_floats(&set.arrays[1], (const float[]){1, 2}, 2);
    ckpt_dataset_free(&set);
    const ckpt_data_request arrays[2] = {{.name = "x"}, {.name = "y", .role = CKPT_DATA_TARGET}};
    set = load_with("many.npz", arrays, 2, &(ckpt_data_options){.target = "x", .features = "x"});
    expect_names(&set.arrays[0].from, "x");
    expect_names(&set.arrays[1].from, "x");
    expect_names(&set.unused, "y|z|extra");
    ckpt_dataset_free(&set);
    ckpt_error err;
    assert_int_equal(
        ckpt_dataset_load("many.npz", arrays, 2, &(ckpt_data_options){.target = "x"}, &set, &err),
        CKPT_USAGE);
    assert_string_equal(
        err.message,
        "many.npz: array 'x' is taken already, and there is no other for the model's input 'x'; it has 'x', "
        "'y', 'z', 'extra'; name one with --features");
}

/* The validation data have the columns of the training data, in whatever order and among whatever others. */
static void test_like_training(void **state) {
    (void)state;
    ckpt_dataset training = load_csv_with("a,id,b,price\n1,r1,2,3\n", want_xy2, 2,
                                          &(ckpt_data_options){.target = "price", .drop = "id"});
    const ckpt_data_options like = {.target = "price", .drop = "id", .like = &training};
    ckpt_dataset set =
        load_csv_with("price,b,more,a\n30,20,x,10\n", want_xy2, 2, &like); /* no `id` to drop */
    expect_floats(&set.arrays[0], (const float[]){10, 20}, 2);
    expect_floats(&set.arrays[1], (const float[]){30}, 1);
    expect_names(&set.unused, "more");
    ckpt_dataset_free(&set);
    expect_csv_error_with(
        "a,B,price\n1,2,3\n", want_xy2, 2, &like,
        "t.csv: line 1: has no column 'b', which the training data has for the model's input 'x'; add it");
    ckpt_dataset_free(&training);
}

static void test_arrays(void **state) {
    (void)state;
    ckpt_data_request want[2] = {{.name = "input", .aliases = {"x"}},
                                 {.name = "y", .role = CKPT_DATA_TARGET}};
    ckpt_dataset set =
        load_with("bad_names.npz", want, 2, &(ckpt_data_options){.target = "labels", .features = "features"});
    expect_names(&set.arrays[0].from, "features");
    expect_names(&set.arrays[1].from, "labels");
    assert_false(set.has_columns);
    ckpt_dataset_free(&set);
    set = load_with("many.npz", want, 2, &(ckpt_data_options){.drop = "x,ext*", .features = "z"});
    expect_names(&set.arrays[0].from, "z");
    expect_names(&set.dropped, "x|extra");
    expect_names(&set.unused, "");
    ckpt_dataset_free(&set);
    set = load_with("x_v1.npy,y.npy", want, 2, NULL);
    assert_int_equal(set.arrays[0].from.count, 0);
    ckpt_dataset_free(&set);
    static const struct {
        const char *spec;
        ckpt_data_options options;
        const char *message;
    } cases[] = {
        {"many.npz", {.target = "z,y"}, "many.npz: --target names 2 arrays, the model takes 1; name as many"},
        {"many.npz",
         {.target = "Y"},
         "many.npz: no array is named 'Y' in --target; the nearest are 'x' (0), 'y' (1), 'z' (2)"},
        {"many.npz",
         {.target = "y", .drop = "y"},
         "many.npz: array 'y' is in --target and in --drop; leave it out of one"},
        {"x_v1.npy,y.npy",
         {.target = "y"},
         "x_v1.npy,y.npy: its arrays have no names for --target to choose by; leave it out"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ckpt_error err;
        assert_int_equal(ckpt_dataset_load(cases[i].spec, want, 2, &cases[i].options, &set, &err),
                         CKPT_USAGE);
        assert_string_equal(err.message, cases[i].message);
    }
    /* The first input goes by x as well, but x is the second's. */
    const ckpt_data_request two[2] = {{.name = "z", .aliases = {"x"}}, {.name = "x"}};
    set = load_with("many.npz", two, 2, NULL);
    expect_names(&set.arrays[0].from, "z");
    expect_names(&set.arrays[1].from, "x");
    ckpt_dataset_free(&set);
    const ckpt_data_request gone[2] = {{.name = "w", .aliases = {"x"}}, {.name = "x"}};
    ckpt_error err;
    assert_int_equal(ckpt_dataset_load("stored.npz", gone, 2, NULL, &set, &err), CKPT_USAGE);
    assert_string_equal(
        err.message,
        "stored.npz: array 'x' is taken already, and there is no other for the model's input 'w'; it has "
        "'x', 'y'; name one with --features");
    const ckpt_data_request alias[2] = {{.name = "q", .aliases = {"x"}, .values = 1},
                                        {.name = "x", .values = 2}};
    set = load_csv_with("x0,x1,w,y\n1,2,3,4\n", alias, 2, &(ckpt_data_options){.drop = "y"});
    expect_names(&set.arrays[0].from, "w");
    expect_names(&set.arrays[1].from, "x0|x1");
    ckpt_dataset_free(&set);
    /* An input called y: the target is another array, or none. */
    want[0] = (ckpt_data_request){.name = "y"};
    assert_int_equal(ckpt_dataset_load("stored.npz", want, 2, NULL, &set, &err), CKPT_USAGE);
    assert_string_equal(
        err.message,
        "stored.npz: array 'y' is taken already, and there is no other for the target 'y'; it has 'x', 'y'; "
        "name one with --target");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_options),
        cmocka_unit_test(test_option_errors),   cmocka_unit_test(test_several_inputs),
        cmocka_unit_test(test_several_targets), cmocka_unit_test(test_input_as_target),
        cmocka_unit_test(test_like_training),   cmocka_unit_test(test_arrays),
    };
    enter_files();
    return cmocka_run_group_tests_name("data columns", tests, NULL, NULL);
}
