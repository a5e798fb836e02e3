/* Damaged files: 20,000 of them, the same ones each run. Whatever comes out, it is a dataset or one line,
 * and under the sanitizers no read or write strays. */
#include <stdio.h>

#include "data_test.h"

enum { ROUNDS = 20000, FILE_MAX = 4096 };

typedef struct seed_file {
    const char *path;
    size_t size;
    uint8_t bytes[FILE_MAX];
} seed_file;

static seed_file files[] = {
    {.path = "stored.npz"},     {.path = "deflated.npz"},
    {.path = "zip64.npz"},      {.path = "fortran.npz"},
    {.path = "x_v1.npy"},       {.path = "x_v2.npy"},
    {.path = "x_v3.npy"},       {.path = "images-idx3-ubyte.gz"},
    {.path = "floats.idx"},     {.path = "quoted.csv"},
    {.path = "names_ucs4.npz"}, {.path = "names_bytes.npz"},
    {.path = "table.csv.gz"},   {.path = "table.tsv.gz"},
    {.path = "named.csv"},
};
enum { FILE_COUNT = sizeof files / sizeof files[0] };

static const char csv_text[] =
    "\xef\xbb\xbf\"a,\"\"1\"\"\",b,c,d,y\r\n1.5,-2,3e-1,4,0\r\n\"5\",6,7,8,2\n9,10,11,12,1";
static const char named_text[] =
    "id;x_0;x_1;x3;x2;y\rr1;1,5;-2;0,25;1e3;cat\rr2;5;6;7;8;\"dog\"\rr3;9;10;11;12;ant";

/* What a user may have asked for. */
static const ckpt_data_options asked[] = {{0},
                                          {.target = "y"},
                                          {.drop = "0"},
                                          {.features = "1-4", .target = "y*"},
                                          {.features = "x*,a*"},
                                          {.target = "x,y", .drop = "d"}};
enum { ASKED_COUNT = sizeof asked / sizeof *asked };

static uint64_t rng_state = 20240229;

/* xorshift64 (Marsaglia 2003). */
static uint32_t draw(uint32_t below) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32) % below;
}

static void read_files(void) {
    for (size_t i = 0; i < FILE_COUNT; i++) {
        if (strcmp(files[i].path, "quoted.csv") == 0) {
            files[i].size = sizeof csv_text - 1;
            memcpy(files[i].bytes, csv_text, files[i].size);
            continue;
        }
        if (strcmp(files[i].path, "named.csv") == 0) {
            files[i].size = sizeof named_text - 1;
            memcpy(files[i].bytes, named_text, files[i].size);
            continue;
        }
        FILE *f = fopen(files[i].path, "rb");
        assert_non_null(f);
        files[i].size = fread(files[i].bytes, 1, FILE_MAX, f);
        assert_true(files[i].size > 0 && files[i].size < FILE_MAX);
        fclose(f);
    }
}

/* One change: a flipped bit, a telling byte, a moved or doubled run, a digit, or the file's end cut off. */
static size_t mutate(uint8_t *bytes, size_t size) {
    static const uint8_t telling[] = {0,   1,   0x7f, 0x80, 0xff, '\'', '"', '(', ')',
                                      ',', ';', '\t', '\r', '\n', '9',  '-', 'e'};
    size_t at = draw((uint32_t)size), from = draw((uint32_t)size), run = 1 + draw(8);
    switch (draw(6)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << draw(8));
        break;
    case 1:
        bytes[at] = telling[draw(sizeof telling)];
        break;
    case 2:
        if (at + run <= size && from + run <= size) memmove(bytes + at, bytes + from, run);
        break;
    case 3:
        for (size_t i = at; i < size && i < at + run; i++) bytes[i] = draw(2) ? 0xff : 0;
        break;
    case 4:
        bytes[at] = (uint8_t)('0' + draw(10));
        break;
    default:
        if (draw(4) == 0) size = at + 1;
    }
    return size;
}

static void test_mutations(void **state) {
    (void)state;
    static uint8_t bytes[FILE_MAX];
    int loaded = 0, refused = 0;
    read_files();
    for (int round = 0; round < ROUNDS; round++) {
        const seed_file *file = &files[draw(FILE_COUNT)];
        size_t size = file->size;
        memcpy(bytes, file->bytes, size);
        for (uint32_t n = 1 + draw(4); n--;) size = mutate(bytes, size);
        const ckpt_data_request any = {.name = "x", .want = draw(2) ? CKPT_WANT_EITHER : CKPT_WANT_FLOAT};
        bool one = draw(2);
        ckpt_data_options options = asked[draw(4) ? 0 : draw(ASKED_COUNT)];
        ckpt_dataset set;
        ckpt_error err = {.message = ""};
        ckpt_status status =
            load_copy(file->path, bytes, size, one ? &any : want_xy, one ? 1 : 2, &options, &set, &err);
        if (status == CKPT_OK) {
            assert_true(set.samples > 0);
            loaded++;
            /* The file is like itself. */
            ckpt_dataset again;
            options.like = &set;
            status =
                load_copy(file->path, bytes, size, one ? &any : want_xy, one ? 1 : 2, &options, &again, &err);
            if (status != CKPT_OK) fail_msg("%s", err.message);
            assert_true(again.samples == set.samples);
            for (size_t a = 0; a < set.array_count; a++) {
                const ckpt_array *array = &set.arrays[a];
                assert_memory_equal(array->data, again.arrays[a].data,
                                    set.samples * ckpt_array_sample_bytes(array));
            }
            ckpt_dataset_free(&again);
        } else {
            assert_true(status == CKPT_USAGE);
            assert_true(strlen(err.message) > 20 &&
                        strncmp(err.message, file->path, strlen(file->path)) == 0);
            expect_empty(&set);
            refused++;
        }
        ckpt_dataset_free(&set);
    }
    /* Both must be common, or the mutations prove little. */
    assert_true(loaded > ROUNDS / 20);
    assert_true(refused > ROUNDS / 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mutations)};
    enter_files();
    return cmocka_run_group_tests_name("data mutations", tests, NULL, NULL);
}
