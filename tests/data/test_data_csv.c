/* CSV: quoting, line ends, which column is what, numbers, and every message. */
#include <locale.h>

#include "data_test.h"

static const ckpt_data_request want_ab[2] = {
    {.name = "input", .aliases = {"x"}, .values = 2},
    {.name = "out", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER, .values = 2, .integer_values = 1},
};

static void expect_ab(const char *text) {
    ckpt_dataset set = load_csv(text, want_ab, 2);
    expect_floats(&set.arrays[0], (const float[]){1.5f, -2, 0.25f, 4000}, 4);
    expect_integers(&set.arrays[1], (const int64_t[]){7, 8}, 2);
    ckpt_dataset_free(&set);
}

static void test_layouts(void **state) {
    (void)state;
    expect_ab("a,b,y\n1.5,-2,7\n.25,4e3,8\n");
    expect_ab("a,b,y\r\n1.5,-2,7\r\n.25,4e3,8\r\n");
    expect_ab("a,b,y\n1.5,-2,7\n.25,4e3,8");
    expect_ab("a,b,y\n1.5,-2.,7\n+.25,4E+3,8.0\n\r\n\n");
    expect_ab("\xef\xbb\xbf"
              "a,b,y\n1.5,-2,7\n.25,4e3,8\n");
    expect_ab("\"a \"\"quoted\"\"\",\"b,\nb\",\"y\"\n\"1.5\",-2,7\n .25 ,\"4e3\" ,\t8\n");
    expect_ab("a,Label,b\n1.5,7,-2\n.25,8,4e3\n");
    expect_ab("OUT,a,class\n7,1.5,-2\n8,.25,4e3\n");
    expect_ab("a,b,last\n1.5,-2,7\n.25,4e3,8\n");
}

static void test_several_targets(void **state) {
    (void)state;
    const char *texts[] = {"y0,a,y1,b\n1,2,3,4\n", "y_1,a,y_2,b\n1,2,3,4\n", "out0,a,out1,b\n1,2,3,4\n"};
    for (int i = 0; i < 3; i++) {
        ckpt_dataset set = load_csv(texts[i], want_ab, 2);
        expect_floats(&set.arrays[0], (const float[]){2, 4}, 2);
        expect_floats(&set.arrays[1], (const float[]){1, 3}, 2);
        ckpt_dataset_free(&set);
    }
}

static void test_several_inputs(void **state) {
    (void)state;
    const ckpt_data_request want[3] = {
        {.name = "ids", .want = CKPT_WANT_INTEGER, .classes = 10},
        {.name = "size"},
        {.name = "y", .role = CKPT_DATA_TARGET},
    };
    ckpt_dataset set = load_csv("unused,size,ids0,ids1,y\n0,1.5,2,3,4\n0,2.5,4,5,6\n", want, 3);
    expect_integers(&set.arrays[0], (const int64_t[]){2, 3, 4, 5}, 4);
    expect_floats(&set.arrays[1], (const float[]){1.5f, 2.5f}, 2);
    expect_floats(&set.arrays[2], (const float[]){4, 6}, 2);
    ckpt_dataset_free(&set);
    expect_csv_error("size,id,y\n1,2,3\n", want, 3,
                     "t.csv: line 1: no column for the model's input 'ids'; it has 'size', 'id', 'y'; name "
                     "the column 'ids', or 'ids0', 'ids1' and so on");
    expect_csv_error("size,ids,y\n1,2.5,3\n", want, 3, "t.csv: line 2, column 'ids': 2.5 is not an integer");
    expect_csv_error(
        "size,ids,y\n1,12,3\n", want, 3,
        "t.csv: array 'ids' has index 12 at row 0, column 0 (counted from 0); the model takes 0 to 9");
    expect_csv_error("size,size,ids,y\n1,1,2,3\n", want, 3,
                     "t.csv: line 1: two columns are named 'size'; rename one");
}

/* The text, and the whole message. */
static void test_errors(void **state) {
    (void)state;
    static const char *const errors[][2] = {
        {"", "t.csv: is empty; save it again"},
        {"\n1,2,3\n", "t.csv: line 1: column 1 has no name; name it, or write without an index"},
        {"a,b,y\n", "t.csv: array 'input' has no samples (shape [0,2]); add some"},
        {"a;b;y\n1;2;3\n",
         "t.csv: line 1: has 1 column ('a;b;y') for 2 arrays; separate the columns with commas"},
        {"5.1,3.5,0\n1,2,3\n", "t.csv: line 1: has only numbers; the first line must name the columns"},
        {"a,,y\n1,2,3\n", "t.csv: line 1: column 2 has no name; name it, or write without an index"},
        {"a,b,y,y\n1,2,3,3\n", "t.csv: line 1: two columns are named 'y'; rename one"},
        {"a,b,c,y\n1,2,3,0\n",
         "t.csv: array 'input' has 3 values a sample (shape [1,3]); the model's input 'input' takes 2"},
        {"a,b,y\n1,2,3\n4,5\n", "t.csv: line 3: has 2 cells, the header has 3 columns"},
        {"a,b,y\n1,2,3\n4,5,6,7\n", "t.csv: line 3: has more cells than the header's 3 columns"},
        {"a,b,y\n1,,3\n", "t.csv: line 2, column 'b': empty; fill in a number or remove the line"},
        {"a,b,y\n1,2,3\n\n1,2,3\n", "t.csv: line 3: has 1 cell, the header has 3 columns"},
        {"a,b,y\n1,x,3\n", "t.csv: line 2, column 'b': 'x' is not a finite number; replace it"},
        {"a,b,y\n1,nan,3\n", "t.csv: line 2, column 'b': 'nan' is not a finite number; replace it"},
        {"a,b,y\n1,inf,3\n", "t.csv: line 2, column 'b': 'inf' is not a finite number; replace it"},
        {"a,b,y\n1,0x10,3\n", "t.csv: line 2, column 'b': '0x10' is not a finite number; replace it"},
        {"a,b,y\n1,1e,3\n", "t.csv: line 2, column 'b': '1e' is not a finite number; replace it"},
        {"a,b,y\n1,1e39,3\n", "t.csv: line 2, column 'b': 1e39 is too large for float32; scale it"},
        {"a,b,y\n1,\"2\",3\n1,\"2,3\n", "t.csv: line 3: a quote is never closed; add '\"'"},
        {"a,b,y\n1,\"2\"x,3\n", "t.csv: line 2: text after a closing quote; put all of the cell in quotes"},
        {"\xff\xfe"
         "a,b",
         "t.csv: is UTF-16 text; save it as UTF-8"},
    };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        expect_csv_error(errors[i][0], want_ab, 2, errors[i][1]);
    expect_csv_error(
        "a,b,y\n1,2,0\n1,2,5\n", want_xy, 2,
        "t.csv: array 'input' has 2 values a sample (shape [2,2]); the model's input 'input' takes 4");
    const ckpt_data_request binary[2] = {{.name = "x"},
                                         {.name = "y", .role = CKPT_DATA_TARGET, .unit_range = true}};
    expect_csv_error(
        "a,y\n1,1\n2,1.5\n", binary, 2,
        "t.csv: array 'y' has 1.5 at row 1, column 0 (counted from 0); the loss takes targets from 0 to 1");
    const ckpt_data_request three[2] = {{.name = "x"}, {.name = "y", .role = CKPT_DATA_TARGET, .values = 3}};
    expect_csv_error("a,b,c\n1,1,1\n", three, 2,
                     "t.csv: line 1: no column for the target 'y'; it has 'a', 'b', 'c'; name the column "
                     "'y', or 'y0', 'y1' and so on");
}

/* A header may promise far more cells than the file can hold: memory follows the file. */
static void test_memory_follows_file(void **state) {
    (void)state;
    enum { COLUMNS = 20000, ROWS = 20000, SIZE = 3 * COLUMNS + ROWS };
    char *text = malloc(SIZE);
    for (size_t i = 0; i < COLUMNS; i++) memcpy(text + 3 * i, i + 1 < COLUMNS ? "ab," : "ab\n", 3);
    memset(text + 3 * COLUMNS, '\n', ROWS);
    text[SIZE - 1] = '1';
    ckpt_dataset set;
    ckpt_error err;
    const ckpt_data_request want = {.name = "x"};
    assert_int_equal(load_copy("t.csv", text, SIZE, &want, 1, &set, &err), CKPT_USAGE);
    assert_string_equal(err.message, "t.csv: line 2: has 1 cell, the header has 20000 columns");
    free(text);
}

static void test_locale_does_not_matter(void **state) {
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8")) skip();
    expect_ab("a,b,y\n1.5,-2,7\n.25,4e3,8\n");
    setlocale(LC_ALL, "C");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_several_targets),
        cmocka_unit_test(test_several_inputs),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_memory_follows_file),
        cmocka_unit_test(test_locale_does_not_matter),
    };
    return cmocka_run_group_tests_name("data csv", tests, NULL, NULL);
}
