/* Targets that name their classes: in CSV, and as strings of numpy. */
#include <stdio.h>

#include "data_test.h"

static const ckpt_data_request want_classes[2] = {{.name = "x", .values = 1},
                                                  {.name = "y",
                                                   .role = CKPT_DATA_TARGET,
                                                   .want = CKPT_WANT_EITHER,
                                                   .values = 3,
                                                   .integer_values = 1,
                                                   .classes = 3}};

/* In the order of bytes: capitals before small letters, UTF-8 last. */
static void test_csv(void **state) {
    (void)state;
    ckpt_dataset set =
        load_csv("x,y\n1,dog\n2,Cat\n3,\" \xc3\xa9t\xc3\xa9 \"\n4,\tdog \n5,\"Cat\"\n", want_classes, 2);
    expect_integers(&set.arrays[1], (const int64_t[]){1, 0, 2, 1, 0}, 5);
    expect_names(&set.arrays[1].classes, "Cat|dog|\xc3\xa9t\xc3\xa9");
    ckpt_dataset_free(&set);
    set = load_csv("x;y\n1;\"a \"\"b\"\", c\"\n2;1-2\n3;yes\n", want_classes, 2);
    expect_names(&set.arrays[1].classes, "1-2|a \"b\", c|yes");
    expect_integers(&set.arrays[1], (const int64_t[]){1, 0, 2}, 3);
    ckpt_dataset_free(&set);
    set = load_csv("x,y\n1,True\n2,False\n", want_classes, 2); /* truth values are 1 and 0 */
    expect_integers(&set.arrays[1], (const int64_t[]){1, 0}, 2);
    assert_int_equal(set.arrays[1].classes.count, 0);
    ckpt_dataset_free(&set);
}

static void test_csv_errors(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"x,y\n1,a\n2,b\n", "t.csv: array 'y' names 2 classes, 'a', 'b'; the model has 3"},
        {"x,y\n1,a\n2,a\n", "t.csv: array 'y' names 1 class, 'a'; the model has 3"},
        {"x,y\n1,a\n2,b\n3,c\n4,d\n",
         "t.csv: array 'y' names 4 classes, 'a', 'b', 'c', 'd'; the model has 3"},
        {"x,y\n1,a\n2,2\n", "t.csv: line 3, column 'y': '2' is a number among names of classes; write all "
                            "classes as numbers, or all as "
                            "names"},
        {"x,y\n1,1\n2,two\n", "t.csv: line 3, column 'y': 'two' is a name, and the first cell of the column "
                              "is a number; write all classes "
                              "as names, or all as numbers"},
        {"x,y\n1,a\n2,\n", "t.csv: line 3, column 'y': is empty; fill it in, remove the line, or leave the "
                           "column out with --drop"},
        {"x,y\n1,a\n2,None\n", "t.csv: line 3, column 'y': 'None' stands for a missing value; fill it in, "
                               "remove the line, or leave the "
                               "column out with --drop"},
        {"x,y\na,a\n",
         "t.csv: line 2, column 'x': 'a' is not a number; replace it, or leave the column out with --drop"},
        {"x,y\n1,a\n2,\xe9t\xe9\n",
         "t.csv: line 3, column 'y': '\xe9t\xe9' is not UTF-8, as names of classes must be; save the file as "
         "UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_csv_error(cases[i][0], want_classes, 2, cases[i][1]);
    /* A model of floats takes no names, but one float takes two. */
    const ckpt_data_request floats[2] = {{.name = "x"}, {.name = "y", .role = CKPT_DATA_TARGET, .values = 2}};
    expect_csv_error(
        "x,y0,y1\n1,a,b\n", floats, 2,
        "t.csv: line 2, column 'y0': 'a' is not a number; replace it, or leave the column out with --drop");
    const ckpt_data_request binary[2] = {
        {.name = "x"}, {.name = "y", .role = CKPT_DATA_TARGET, .values = 1, .unit_range = true}};
    ckpt_dataset set = load_csv("x,y\n1,no\n2,yes\n3,no\n", binary, 2);
    expect_floats(&set.arrays[1], (const float[]){0, 1, 0}, 3);
    expect_names(&set.arrays[1].classes, "no|yes");
    ckpt_dataset_free(&set);
    expect_csv_error("x,y\n1,no\n2,yes\n3,maybe\n", binary, 2,
                     "t.csv: array 'y' names 3 classes, 'maybe', 'no', 'yes'; the model has 2");
}

/* What a column of nothing but different texts asks for is bounded. */
static void test_many_names(void **state) {
    (void)state;
    enum { NAMES = 70000, LINE = 10 };
    const ckpt_data_request want[2] = {
        {.name = "x"}, {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_INTEGER, .values = 1}};
    char *text = malloc(4 + (size_t)NAMES * LINE + 1);
    strcpy(text, "x,y\n");
    for (int i = 0; i < NAMES; i++) sprintf(text + 4 + LINE * i, "1,n%06d\n", i);
    ckpt_dataset set;
    ckpt_error err;
    assert_int_equal(load_copy("t.csv", text, 4 + 65536 * LINE, want, 2, NULL, &set, &err), CKPT_OK);
    assert_int_equal(set.arrays[1].classes.count, 65536);
    for (int64_t i = 0; i < 65536; i++) assert_int_equal(((int64_t *)set.arrays[1].data)[i], i);
    ckpt_dataset_free(&set);
    assert_int_equal(load_copy("t.csv", text, 4 + (size_t)NAMES * LINE, want, 2, NULL, &set, &err),
                     CKPT_USAGE);
    assert_string_equal(
        err.message,
        "t.csv: line 65538, column 'y': 'n065536' is the name of class 65537, more than a column of classes "
        "has; choose the column with --target");
    free(text);
}

static void test_strings(void **state) {
    (void)state;
    static const char *const files[] = {"names_ucs4.npz", "names_ucs4_big.npz", "names_bytes.npz"};
    for (int f = 0; f < 3; f++) {
        ckpt_dataset set = load_ok(files[f], want_classes, 2);
        expect_integers(&set.arrays[1], (const int64_t[]){1, 0, 2, 0, 1, 2}, 6);
        expect_names(&set.arrays[1].classes, f == 2 ? "ant|bee|wasp" : "ant|bee|\xc3\xa9t\xc3\xa9");
        ckpt_dataset_free(&set);
    }
    static const char *const bad[][2] = {
        {"bad_names_numbers.npz", "bad_names_numbers.npz: array 'y' has '0' at row 0, column 0 (counted from "
                                  "0), which is a number among "
                                  "names of classes; write all classes as numbers, or all as names"},
        {"bad_names_empty.npz", "bad_names_empty.npz: array 'y' has '' at row 1, column 0 (counted from 0), "
                                "which is empty; fill it in, "
                                "remove the line, or leave the column out with --drop"},
        {"bad_names_two.npz", "bad_names_two.npz: array 'y' names 2 classes, 'ant', 'bee'; the model has 3"},
        {"bad_names_input.npz",
         "bad_names_input.npz: array 'x' holds strings, which only a target of classes may be; save it with "
         "astype(np.float32) or astype(np.int64)"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ckpt_dataset set;
        ckpt_error err;
        assert_int_equal(ckpt_dataset_load(bad[i][0], want_classes, 2, NULL, &set, &err), CKPT_USAGE);
        assert_string_equal(err.message, bad[i][1]);
    }
}

/* Validation data have the numbers of the training data, also where some classes are missing; others are
 * refused. */
static void test_like_training(void **state) {
    (void)state;
    ckpt_dataset training = load_csv("x,y\n1,b\n2,c\n3,a\n", want_classes, 2);
    const ckpt_data_options like = {.like = &training};
    ckpt_dataset set = load_csv_with("x,y\n1,c\n2,b\n", want_classes, 2, &like);
    expect_integers(&set.arrays[1], (const int64_t[]){2, 1}, 2); /* by themselves they would be 1 and 0 */
    expect_names(&set.arrays[1].classes, "a|b|c");
    ckpt_dataset_free(&set);
    expect_csv_error_with(
        "x,y\n1,c\n2,C\n", want_classes, 2, &like,
        "t.csv: line 3, column 'y': 'C' is none of the 3 classes of the training data; correct or remove it");
    expect_csv_error_with(
        "x,y\n1,0\n2,1\n", want_classes, 2, &like,
        "t.csv: array 'y' has numbers of classes, the training data names; write both the same way");
    ckpt_dataset_free(&training);
    training = load_csv("x,y\n1,0\n2,1\n", want_classes, 2);
    expect_csv_error_with(
        "x,y\n1,a\n2,b\n3,c\n", want_classes, 2, &like,
        "t.csv: array 'y' has names of classes, the training data numbers; write both the same way");
    ckpt_dataset_free(&training);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv),           cmocka_unit_test(test_csv_errors),
        cmocka_unit_test(test_many_names),    cmocka_unit_test(test_strings),
        cmocka_unit_test(test_like_training),
    };
    enter_files();
    return cmocka_run_group_tests_name("data classes", tests, NULL, NULL);
}
