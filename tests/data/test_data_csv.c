/* CSV: quoting, line ends, which column is what, numbers, and every message. */
#include <locale.h>
#include <stdio.h>

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
    expect_ab("OUT,a,b\n7,1.5,-2\n8,.25,4e3\n");
}

/* Lines may end in CR alone, cells be separated by what the first line has most of. */
static void test_separators(void **state) {
    (void)state;
    expect_ab("a,b,y\r1.5,-2,7\r.25,4e3,8\r");
    expect_ab("a,b,y\r1.5,-2,7\r.25,4e3,8");
    expect_ab("a,b,y\r\n1.5,-2,7\r.25,4e3,8\n");
    expect_ab("\"a\rb\",b,y\r1.5,-2,7\r.25,4e3,8\r\r");
    expect_ab("a;b;y\n1.5;-2;7\n.25;4e3;8\n");
    expect_ab("\"a, b, c, d\";b;y\r\n1.5;-2;7\r\n.25;4e3;8\r\n");
    expect_ab("a\tb\ty\n1.5\t-2\t7\n .25 \t4e3\t8\n");
    expect_ab("a|b|y\n1.5|-2|7\n.25|4e3|8\n");
    expect_ab("sep=;\r\na;b;y\r\n1.5;-2;7\r\n.25;4e3;8\r\n");
    expect_ab("\xef\xbb\xbf"
              "sep=|\na|b|y\n1.5|-2|7\n.25|4e3|8\n");
    const ckpt_data_request one = {.name = "x"};
    ckpt_dataset set = load_csv("x\ttwo\n1\t2\n", &one, 1); /* no column is called x_: both are its */
    assert_int_equal(set.arrays[0].values, 1);              /* but for the one that is called x */
    expect_names(&set.unused, "two");
    ckpt_dataset_free(&set);
}

/* Spreadsheets of half the world write 0,5; the comma is read where it can mean nothing else. */
static void test_decimal_commas(void **state) {
    (void)state;
    ckpt_dataset set = load_csv("a;b;y\n1,5;-2;7\n,25;4e3;8\n", want_ab, 2);
    expect_floats(&set.arrays[0], (const float[]){1.5f, -2, 0.25f, 4000}, 4);
    expect_names(&set.notes, "t.csv: numbers have a decimal comma");
    ckpt_dataset_free(&set);
    set = load_csv("a\tb\ty\n1,303\t-2\t7\n0,346\t4e3\t8\n", want_ab, 2); /* 0,346 is no thousands */
    expect_floats(&set.arrays[0], (const float[]){1.303f, -2, 0.346f, 4000}, 4);
    ckpt_dataset_free(&set);
    expect_csv_error("a;b;y\n1,303;-2;7\n2,346;4e3;8\n", want_ab, 2,
                     "t.csv: line 2, column 'a': the comma may be decimal or separate thousands; write "
                     "numbers with a decimal point "
                     "alone, as 1234.5");
    expect_csv_error("a;b;y\n1,5;-2;7\n2.5;4;8\n", want_ab, 2,
                     "t.csv: line 3, column 'a': '2.5' has a decimal point, and line 2, column 'a' has a "
                     "comma; write all numbers alike");
    expect_csv_error("a;b;y\n1.5;-2;7\n3;2,25;8\n", want_ab, 2,
                     "t.csv: line 3, column 'b': '2,25' has a decimal comma, and line 2, column 'a' has a "
                     "point; write all numbers alike");
    expect_csv_error("a;b;y\n1.234,5;-2;7\n", want_ab, 2,
                     "t.csv: line 2, column 'a': '1.234,5' has a thousands separator or a decimal comma; "
                     "write it with a decimal point "
                     "alone, as 1234.5");
}

/* Values by Python: numpy.float32 of the decimal (exact fractions rounded once), int of the digits. */
static void test_precision(void **state) {
    (void)state;
    const ckpt_data_request want[2] = {{.name = "x"},
                                       {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_INTEGER}};
    ckpt_dataset set =
        load_csv("x,y\n0.1,9223372036854775807\n3.4028235e38,-9223372036854775808\n1e-45,9007199254740993\n"
                 /* half-way between two floats but for the last digit: by way of a double it would be 1 */
                 "1.00000005960464477539062501,1e3\n16777217,True\n-0,false\n",
                 want, 2);
    expect_floats(&set.arrays[0],
                  (const float[]){0x1.99999ap-4f, 0x1.fffffep127f, 0x1p-149f, 0x1.000002p0f, 0x1p24f, -0.0f},
                  6);
    expect_integers(&set.arrays[1], (const int64_t[]){INT64_MAX, INT64_MIN, 9007199254740993, 1000, 1, 0}, 6);
    expect_names(&set.notes,
                 "t.csv: has 1 whole number that float32 rounds, the first 16777217 in line 6, column 'x'");
    ckpt_dataset_free(&set);
    expect_csv_error("x,y\n1,9223372036854775808\n", want, 2,
                     "t.csv: line 2, column 'y': '9223372036854775808' is not a whole number that int64 "
                     "holds; the model takes integers here");
    expect_csv_error("x,y\n3.4028236e38,1\n", want, 2,
                     "t.csv: line 2, column 'x': '3.4028236e38' is too large for float32; scale it");
}

/* Targets that are classes may be written as floats, if all are whole; else they are floats. */
static void test_whole_floats(void **state) {
    (void)state;
    const ckpt_data_request want[2] = {{.name = "x"},
                                       {.name = "y",
                                        .role = CKPT_DATA_TARGET,
                                        .want = CKPT_WANT_EITHER,
                                        .integer_values = 1,
                                        .classes = 3,
                                        .values = 3}};
    ckpt_dataset set = load_csv("x,y\n1,0.0\n2,2.\n3,1e0\n", want, 2);
    expect_integers(&set.arrays[1], (const int64_t[]){0, 2, 1}, 3);
    ckpt_dataset_free(&set);
    expect_csv_error("x,y\n1,0.0\n2,0.5\n", want, 2,
                     "t.csv: array 'y' has 0.5 at row 1, column 0 (counted from 0), where whole numbers are "
                     "needed; correct it, or save it "
                     "with astype(np.int64)");
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
    set = load_csv("size,id,y\n1,2,3\n", want, 3); /* what no name says, the order does */
    expect_names(&set.arrays[0].from, "id");
    ckpt_dataset_free(&set);
    expect_csv_error("size,ids,y\n1,2.5,3\n", want, 3,
                     "t.csv: line 2, column 'ids': '2.5' is not a whole number that int64 holds; the model "
                     "takes integers here");
    expect_csv_error(
        "size,ids,y\n1,12,3\n", want, 3,
        "t.csv: array 'ids' has index 12 at row 0, column 0 (counted from 0); the model takes 0 to 9");
    expect_csv_error("size,size,ids,y\n1,1,2,3\n", want, 3,
                     "t.csv: line 1: columns 1 and 2 are both named 'size'; rename one");
}

/* The text, and the whole message. */
static void test_errors(void **state) {
    (void)state;
    static const char *const errors[][2] = {
        {"", "t.csv: is empty; save it again"},
        {"\n1,2,3\n", "t.csv: line 1: is empty; the first line must name the columns"},
        {"a,b,y\n", "t.csv: array 'input' has no samples (shape [0,2]); add some"},
        {"a b y\n1 2 3\n", "t.csv: line 1: which column is the target? None is named 'out', 'y', 'target', "
                           "'label', 'class'; it has "
                           "'a b y'; choose with --target NAME"},
        {"a,b,last\n1,2,3\n", "t.csv: line 1: which column is the target? None is named 'out', 'y', "
                              "'target', 'label', 'class'; it has "
                              "'a', 'b', 'last'; choose with --target NAME"},
        {"a,class,y\n1,2,3\n", "t.csv: line 1: columns 'y' and 'class' may both be the target; name it with "
                               "--target, and leave the other "
                               "out with --drop"},
        {"5.1,3.5,0\n1,2,3\n",
         "t.csv: line 1: has only numbers; put a line in front that names the columns, as x0,x1,y"},
        {"a,,y\n1,2,3\n", "t.csv: line 1: column 2 has no name, as an index that a data frame writes; leave "
                          "it out with --drop 1, or "
                          "name it"},
        {"Unnamed: 0,b,y\n0,2,3\n",
         "t.csv: line 1: column 1 has no name, as an index that a data frame writes; leave it out with "
         "--drop 0, or name it"},
        {"a,b,y,y\n1,2,3,3\n", "t.csv: line 1: columns 3 and 4 are both named 'y'; rename one"},
        {"a,b,y_1,y1\n1,2,3,3\n", "t.csv: line 1: columns 'y_1' and 'y1' are named alike; rename one"},
        {"a,b,c,y\n1,2,3,0\n",
         "t.csv: line 1: the model's input 'input' takes 2 columns; named 'input0', 'input1' and so on there "
         "are "
         "none, and left are 3, 'a', 'b', 'c'; choose with --features, or leave some out with --drop"},
        {"a,b,y\n1,2,3\n4,5\n", "t.csv: line 3: has 2 cells, line 1 names 3 columns"},
        {"a,b,y\n1,2,3\n4,5,6,7\n",
         "t.csv: line 3: has 4 cells, line 1 names 3 columns; name them all, and leave an index out with "
         "--drop"},
        {"a,b,y\n1,2,3,\n4,5,6,\n",
         "t.csv: line 2: has 4 cells, line 1 names 3 columns; remove the separator at the end of the line"},
        {"a,b,y\n1,,3\n", "t.csv: line 2, column 'b': is empty; fill it in, remove the line, or leave the "
                          "column out with --drop"},
        {"a,b,y\r1,\"\",3\r", "t.csv: line 2, column 'b': is empty; fill it in, remove the line, or leave "
                              "the column out with --drop"},
        {"a,b,y\n1,2,3\n\n1,2,3\n", "t.csv: line 3: is empty; remove it"},
        {"a,b,y\n1,x,3\n",
         "t.csv: line 2, column 'b': 'x' is not a number; replace it, or leave the column out with --drop"},
        {"a,b,y\n1,1e,3\n",
         "t.csv: line 2, column 'b': '1e' is not a number; replace it, or leave the column out with --drop"},
        {"a,b,y\n1,nan,3\n", "t.csv: line 2, column 'b': 'nan' stands for a missing value; fill it in, "
                             "remove the line, or leave the "
                             "column out with --drop"},
        {"a,b,y\n1,2,N/A\n", "t.csv: line 2, column 'y': 'N/A' stands for a missing value; fill it in, "
                             "remove the line, or leave the "
                             "column out with --drop"},
        {"a,b,y\n1,?,3\n", "t.csv: line 2, column 'b': '?' stands for a missing value; fill it in, remove "
                           "the line, or leave the "
                           "column out with --drop"},
        {"a,b,y\n1,-Infinity,3\n",
         "t.csv: line 2, column 'b': '-Infinity' is not finite; replace it, or remove the line"},
        {"a,b,y\n1,0x10,3\n",
         "t.csv: line 2, column 'b': '0x10' is a hexadecimal number; write it in decimals"},
        {"a,b,y\n1,\"1,234.5\",3\n",
         "t.csv: line 2, column 'b': '1,234.5' has a thousands separator or a decimal comma; write it with a "
         "decimal point alone, as 1234.5"},
        {"a,b,y\n1,\"0,5\",3\n",
         "t.csv: line 2, column 'b': '0,5' has a thousands separator or a decimal comma; write it with a "
         "decimal point alone, as 1234.5"},
        {"a,b,y\n1,1'234,3\n",
         "t.csv: line 2, column 'b': '1'234' has a thousands separator or a decimal comma; write it with a "
         "decimal point alone, as 1234.5"},
        {"a,b,y\n1,1e39,3\n", "t.csv: line 2, column 'b': '1e39' is too large for float32; scale it"},
        {"a,b,y\n1,\"2\",3\n1,\"2,3\n", "t.csv: line 3: a quote is never closed; add '\"'"},
        {"a,b,y\n1,\"2\"x,3\n", "t.csv: line 2: text after a closing quote; put all of the cell in quotes"},
        {"\xff\xfe"
         "a,b",
         "t.csv: is UTF-16 text; save it as UTF-8"},
    };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        expect_csv_error(errors[i][0], want_ab, 2, errors[i][1]);
    const ckpt_data_request binary[2] = {{.name = "x"},
                                         {.name = "y", .role = CKPT_DATA_TARGET, .unit_range = true}};
    expect_csv_error(
        "a,y\n1,1\n2,1.5\n", binary, 2,
        "t.csv: array 'y' has 1.5 at row 1, column 0 (counted from 0); the loss takes targets from 0 to 1");
    ckpt_dataset set;
    ckpt_error err;
    assert_int_equal(load_copy("t.csv", "a\0,\0b\0\n\0", 9, want_ab, 2, NULL, &set, &err), CKPT_USAGE);
    assert_string_equal(err.message,
                        "t.csv: has bytes of zero, as UTF-16 text and binary files have; save it as UTF-8");
}

/* A header may promise far more cells than the file can hold: memory follows the file. */
static void test_memory_follows_file(void **state) {
    (void)state;
    enum { COLUMNS = 20000, ROWS = 20000, CELL = 6, SIZE = CELL * COLUMNS + ROWS };
    char *text = malloc(SIZE + 1);
    for (int i = 0; i < COLUMNS; i++)
        sprintf(text + CELL * i, "%05x%c", (unsigned)i + 0xa0000, i + 1 < COLUMNS ? ',' : '\n');
    memset(text + CELL * COLUMNS, '\n', ROWS);
    text[SIZE - 1] = '1';
    ckpt_dataset set;
    ckpt_error err;
    const ckpt_data_request want = {.name = "x"};
    assert_int_equal(load_copy("t.csv", text, SIZE, &want, 1, NULL, &set, &err), CKPT_USAGE);
    assert_string_equal(err.message, "t.csv: line 2: is empty; remove it");
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
        cmocka_unit_test(test_separators),
        cmocka_unit_test(test_decimal_commas),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_whole_floats),
        cmocka_unit_test(test_several_targets),
        cmocka_unit_test(test_several_inputs),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_memory_follows_file),
        cmocka_unit_test(test_locale_does_not_matter),
    };
    return cmocka_run_group_tests_name("data csv", tests, NULL, NULL);
}
