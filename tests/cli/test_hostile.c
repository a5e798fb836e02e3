/* Files made to do harm: one test for each class that has been published about ONNX files, described here in our own
 * words, and for special files. Each is refused in one line, with the right status, or does what an honest file does; in
 * neither case is anything outside the model's folder read or written. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"

enum { SIDE = 8, DATA_BYTES = SIDE * SIDE * 4, MOST_ENTRIES = 8 };

/* The message is "PROGRAM: MESSAGE" and nothing else; training refuses what planning refuses. */
static void refused(const char *words, int status, const char *message) {
    static const char *const programs[] = {"plan", "train"};
    for (int i = 0; i < 2; i++) {
        program_run run = run_program(programs[i], "%s", words);
        char line[2048];
        snprintf(line, sizeof line, "ckpt%s: %s\n", programs[i], message);
        const char *last = run.err; /* a note may come first */
        for (const char *p = run.err; *p; p++)
            if (*p == '\n' && p[1]) last = p + 1;
        if (run.status != status || strcmp(last, line) != 0)
            fail_msg("%s %s:\n status %d: %s instead of %d: %s", programs[i], words, run.status, run.err, status, line);
        assert_string_equal(run.out, "");
        program_free(&run);
    }
}

static void accepted(const char *words) {
    program_run run = run_program("train", "%s", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    program_free(&run);
}

static void write_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static bool holds(const char *name, const void *bytes, size_t size) {
    char *found = malloc(size + 1);
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    const bool same = fread(found, 1, size + 1, file) == size && memcmp(found, bytes, size) == 0;
    fclose(file);
    free(found);
    return same;
}

static float weights[SIDE * SIDE];

/* "box/m.onnx", y = x . w, with the entries of external_data given as key, value, ..., NULL. */
static Onnx__TensorProto *make_external(maker *m, const char *const *entries) {
    static Onnx__StringStringEntryProto entry[MOST_ENTRIES], *list[MOST_ENTRIES];
    maker_start(m, 17);
    maker_input(m, "x", 2, (int64_t[]){-1, SIDE});
    Onnx__TensorProto *w = maker_weight(m, "w", 2, (int64_t[]){SIDE, SIDE});
    w->n_float_data = 0;
    w->has_data_location = 1;
    w->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    w->external_data = list;
    for (size_t i = 0; entries[2 * i]; i++) {
        onnx__string_string_entry_proto__init(&entry[i]);
        entry[i].key = (char *)entries[2 * i];
        entry[i].value = (char *)entries[2 * i + 1];
        list[i] = &entry[i];
        w->n_external_data = i + 1;
    }
    maker_node(m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(m, "y");
    return w;
}

static void write_external(const char *const *entries) {
    static maker m;
    make_external(&m, entries);
    maker_write(&m, "box/m.onnx");
}

static void write_location(const char *location) { write_external((const char *const[]){"location", location, NULL}); }

/* box/ is the model's folder; secret, beside it, is as long as a weight must be. */
static int set_up(void **state) {
    (void)state;
    if (system("rm -rf box secret other") != 0) return -1;
    for (int i = 0; i < SIDE * SIDE; i++) weights[i] = 0.01f * (float)(i % 7);
    mkdir("box", 0700);
    mkdir("box/in", 0700);
    mkdir("other", 0700);
    write_file("secret", weights, sizeof weights);
    write_file("other/d", weights, sizeof weights);
    write_file("box/d", weights, sizeof weights);
    return 0;
}

#define TENSOR "box/m.onnx: node 'fc' (MatMul, opset 17): tensor 'w': "

/* A location that climbs out of the model's folder (CVE-2022-25882). */
static void test_traversal(void **state) {
    (void)state;
    write_location("d"); /* the same file inside is fine */
    accepted("box/m.onnx --steps 1");
    write_location("../secret");
    refused("box/m.onnx", 3, TENSOR "external data '../secret' leaves the model's directory through '..'; put the file next to the model");
}

/* The same where a check of the first characters does not see it, and absolute (CVE-2024-27318). */
static void test_traversal_in_disguise(void **state) {
    (void)state;
    static const char *const locations[] = {"in/../../secret", "./../secret", "in/./.././../secret", "in//..//../secret", "d/../../secret",
                                            "..", "in/..", "../box/d"};
    char message[300], absolute[4096], cwd[3000];
    for (size_t i = 0; i < sizeof locations / sizeof *locations; i++) {
        write_location(locations[i]);
        snprintf(message, sizeof message,
                 TENSOR "external data '%s' leaves the model's directory through '..'; put the file next to the model",
                 locations[i]);
        refused("box/m.onnx", 3, message);
    }
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(absolute, sizeof absolute, "%s/secret", cwd);
    write_location("/secret");
    refused("box/m.onnx", 3, TENSOR "external data '/secret' is an absolute path; put the file next to the model and save the model with its name alone");
    write_location(absolute); /* one that is there */
    program_run run = run_program("plan", "box/m.onnx");
    assert_int_equal(run.status, 3);
    assert_non_null(strstr(run.err, "is an absolute path"));
    program_free(&run);
    write_location("..\\secret"); /* a name like any other here */
    refused("box/m.onnx", 3, TENSOR "external data '..\\secret' is missing; put it next to the model, where it was exported");
}

/* Lengths that contradict each other, so that a reader leaves its buffer, and messages longer than theirs (CVE-2024-27319). */
static void test_lengths(void **state) {
    (void)state;
    static maker m;
    static char name[20000];
    const char *const none[] = {NULL};
    Onnx__TensorProto *w = make_external(&m, none);
    w->has_data_location = 0;
    w->n_float_data = SIDE * SIDE - 1;
    maker_write(&m, "box/m.onnx");
    refused("box/m.onnx", 3, TENSOR "float_data has 63 entries, its shape and type FLOAT need 64; export it again");
    w->n_float_data = 0;
    w->has_raw_data = 1;
    w->raw_data = (ProtobufCBinaryData){.data = (uint8_t *)weights, .len = DATA_BYTES - 1};
    maker_write(&m, "box/m.onnx");
    refused("box/m.onnx", 3, TENSOR "raw_data has 255 bytes, its shape and type FLOAT need 256; export it again");
    write_external((const char *const[]){"location", "d", "offset", "1", NULL});
    refused("box/m.onnx", 3, TENSOR "external data 'd' has 256 bytes, but the tensor is the 256 bytes from byte 1; copy the whole file or export the model again");
    write_external((const char *const[]){"location", "d", "offset", "18446744073709551615", NULL});
    refused("box/m.onnx", 3, TENSOR "external data 'd' has 256 bytes, but the tensor is the 256 bytes from byte 18446744073709551615; copy the whole file or export the model again");
    write_external((const char *const[]){"location", "d", "length", "255", NULL});
    refused("box/m.onnx", 3, TENSOR "external_data gives a length of 255 bytes, the shape and type need 256; export the model again");
    memset(name, 'n', sizeof name - 1);
    maker_start(&m, 17);
    maker_input(&m, name, 2, (int64_t[]){-1, SIDE});
    maker_node(&m, name, name, name, "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "box/m.onnx");
    program_run run = run_program("plan", "box/m.onnx");
    assert_int_equal(run.status, 3);
    assert_true(strlen(run.err) < 1536 + 100 && strchr(run.err, '\n') == run.err + strlen(run.err) - 1);
    program_free(&run);
}

/* The bytes of an archive of one member `name` that is an array of SIDE floats, or of labels; returns its size. */
static size_t make_archive(const char *name, uint8_t *bytes) {
    static const uint8_t local[26] = "PK\3\4\24\0\0\0\0\0\0\0\0\0", central[28] = "PK\1\2\24\0\24\0\0\0\0\0\0\0\0\0";
    uint8_t *at = bytes;
    char npy[256];
    const int header = snprintf(npy + 10, sizeof npy - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, %d), }\n", SIDE);
    memcpy(npy, "\x93NUMPY\1\0", 8);
    npy[8] = (char)header, npy[9] = 0;
    memset(npy + 10 + header, 0, SIDE * 4);
    const uint32_t size = (uint32_t)(10 + header + SIDE * 4);
    uint32_t crc = 0xffffffff;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= (uint8_t)npy[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    crc = ~crc;
    const uint16_t length = (uint16_t)strlen(name);
    const uint8_t *parts[] = {local, central};
    const size_t lengths[] = {26, 28};
    for (int i = 0; i < 2; i++) {
        uint8_t *head = at;
        memcpy(at, parts[i], lengths[i]);
        uint8_t *fields = head + (i ? 16 : 14);
        memcpy(fields, &crc, 4);
        memcpy(fields + 4, &size, 4);
        memcpy(fields + 8, &size, 4);
        at = fields + 12;
        memcpy(at, &length, 2);
        memset(at + 2, 0, i ? 16 : 2);
        at += i ? 18 : 4;
        memcpy(at, name, length);
        at += length;
        if (i == 0) memcpy(at, npy, size), at += size;
    }
    const uint32_t start = 30 + length + size, directory = 46u + length;
    memset(at, 0, 22);
    memcpy(at, "PK\5\6", 4);
    at[8] = at[10] = 1;
    memcpy(at + 12, &directory, 4);
    memcpy(at + 16, &start, 4);
    return (size_t)(at + 22 - bytes);
}

/* An archive whose members are named after files elsewhere: nothing is ever extracted (CVE-2024-5187). */
static void test_archive(void **state) {
    (void)state;
    static const char *const names[] = {"../planted.npy", "/tmp/ckpt-planted.npy", "x/../../planted.npy", "x.npy/../../planted.npy"};
    static uint8_t bytes[1024];
    write_location("d");
    write_file("box/good.npz", bytes, make_archive("x.npy", bytes));
    program_run run = run_program("train", "box/m.onnx --loss mse --data box/good.npz --steps 1");
    assert_non_null(strstr(run.err, "has no array 'y'")); /* x is found, the target is not: the archive itself is sound */
    program_free(&run);
    for (size_t i = 0; i < 4; i++) {
        write_file("box/bad.npz", bytes, make_archive(names[i], bytes));
        run = run_program("train", "box/m.onnx --loss mse --data box/bad.npz --steps 1");
        assert_int_equal(run.status, 2);
        assert_non_null(strstr(run.err, "has no array 'x'"));
        program_free(&run);
    }
    assert_int_equal(access("planted.npy", F_OK), -1);
    assert_int_equal(access("box/planted.npy", F_OK), -1);
    assert_int_equal(access("/tmp/ckpt-planted.npy", F_OK), -1);
}

/* Saving goes where the user says, never where the file says, and never through a link (CVE-2025-51480). */
static void test_saving(void **state) {
    (void)state;
    write_location("d");
    accepted("box/m.onnx --loss mse --lr 0.1 --steps 2 --save other/out.onnx");
    assert_true(holds("box/d", weights, sizeof weights));
    assert_true(!holds("other/out.onnx.data", weights, sizeof weights)); /* trained */
    assert_true(holds("other/d", weights, sizeof weights));             /* not the file of that name beside the output */
    static const char *const locations[] = {"../secret", "../other/d", "in/../../secret"};
    for (size_t i = 0; i < 3; i++) {
        write_location(locations[i]);
        program_run run = run_program("train", "box/m.onnx --loss mse --steps 1 --save box/out.onnx");
        assert_int_equal(run.status, 3);
        assert_int_equal(access("box/out.onnx", F_OK), -1);
        program_free(&run);
    }
    write_location("d"); /* links in the place of the output are replaced, not followed */
    assert_int_equal(symlink("../secret", "box/soft.onnx"), 0);
    assert_int_equal(symlink("../secret", "box/soft.onnx.data"), 0);
    assert_int_equal(link("secret", "box/hard.onnx"), 0);
    assert_int_equal(link("secret", "box/hard.onnx.data"), 0);
    accepted("box/m.onnx --loss mse --steps 1 --save box/soft.onnx");
    accepted("box/m.onnx --loss mse --steps 1 --save box/hard.onnx");
    assert_true(holds("secret", weights, sizeof weights));
}

/* A symbolic link as the file or on the way to it (CVE-2026-27489). */
static void test_symbolic_link(void **state) {
    (void)state;
    assert_int_equal(symlink("../secret", "box/link"), 0);
    assert_int_equal(symlink("../other", "box/folder"), 0);
    assert_int_equal(symlink("/", "box/root"), 0);
    write_location("link");
    refused("box/m.onnx", 3, TENSOR "external data 'link' goes through the symbolic link 'link'; put the file itself there");
    write_location("folder/d");
    refused("box/m.onnx", 3, TENSOR "external data 'folder/d' goes through the symbolic link 'folder'; put the file itself there");
    write_location("root/etc/hostname");
    refused("box/m.onnx", 3, TENSOR "external data 'root/etc/hostname' goes through the symbolic link 'root'; put the file itself there");
}

/* Keys of external_data that name a reader's own fields, and sizes that no file has (CVE-2026-34445). */
static void test_key_injection(void **state) {
    (void)state;
    write_external((const char *const[]){"location", "d", "basepath", "/etc", "name", "/etc/passwd", "__class__", "x", "file", "../secret",
                                         NULL});
    accepted("box/m.onnx --steps 1"); /* what they say is not looked at */
    write_external((const char *const[]){"location", "d", "location", "../secret", NULL});
    refused("box/m.onnx", 3, TENSOR "external_data gives 'location' twice; export the model again");
    write_external((const char *const[]){"location", "d", "length", "9000000000000000000", NULL});
    refused("box/m.onnx", 3, TENSOR "external_data gives a length of 9000000000000000000 bytes, the shape and type need 256; export the model again");
    write_external((const char *const[]){"location", "d", "offset", "-1", NULL});
    refused("box/m.onnx", 3, TENSOR "external_data has offset '-1', which is not a number of bytes; export the model again");
    static maker m; /* a shape of 1 EiB: refused by size, before anything is allocated */
    Onnx__TensorProto *w = make_external(&m, (const char *const[]){"location", "d", NULL});
    w->dims[0] = 1 << 30, w->dims[1] = 1 << 28;
    maker_write(&m, "box/m.onnx");
    program_run run = run_program("train", "box/m.onnx --steps 1");
    assert_int_equal(run.status, 3);
    if (!strstr(run.err, "external data 'd' has 256 bytes, but the tensor is the 1152921504606846976 bytes from byte 0")) fail_msg("%s", run.err);
    assert_true(run.peak_kib < 256 * 1024);
    program_free(&run);
}

/* A second name of a file outside (CVE-2026-34446). */
static void test_hard_link(void **state) {
    (void)state;
    assert_int_equal(link("secret", "box/hard"), 0);
    write_location("hard");
    refused("box/m.onnx", 3, TENSOR "external data 'hard' has other names (hard links), so it may be a file from outside; replace it by a copy");
}

/* A convolution whose weight has not the rank that its input asks for. */
static void test_convolution_ranks(void **state) {
    (void)state;
    static const int64_t shapes[4][4] = {{SIDE, SIDE, 3, 3}, {1, 1, 1, 1}, {0, 0, 0, 0}, {SIDE, INT64_MAX, 3, 3}};
    for (int rank = 0; rank <= 4; rank++)
        for (int k = 0; k < 4; k++) {
            static maker m;
            maker_start(&m, 17);
            maker_input(&m, "x", 2, (int64_t[]){-1, SIDE});
            Onnx__TensorProto *w = maker_weight(&m, "w", rank, shapes[k < 3 ? k : 0]);
            for (int i = 0; i < rank; i++) w->dims[i] = shapes[k][i];
            maker_node(&m, "Conv", "conv", "x,w", "y", "kernel_shape=3,3 pads=-1,-1,-1,-1 strides=0,0");
            maker_output(&m, "y");
            maker_write(&m, "box/m.onnx");
            program_run run = run_program("plan", "box/m.onnx");
            if (run.status != 3 || !strstr(run.err, "'conv' (Conv, opset 17): ")) fail_msg("rank %d: status %d: %s", rank, run.status, run.err);
            program_free(&run);
        }
}

/* Integers whose quotient or remainder no integer is: in a shape and as a value that the loss depends on. */
static void test_integer_division(void **state) {
    (void)state;
    static const int64_t by[] = {-1, 0}, smallest[] = {INT64_MIN, INT64_MIN};
    for (int i = 0; i < 2; i++)
        for (int mod = 0; mod < 2; mod++) {
            static maker m;
            maker_start(&m, 17);
            maker_input(&m, "x", 2, (int64_t[]){-1, 2});
            maker_ints(&m, "a", 2, smallest);
            maker_ints(&m, "b", 1, &by[i]);
            maker_weight(&m, "w", 2, (int64_t[]){2, 2});
            maker_node(&m, mod ? "Mod" : "Div", "quotient", "a,b", "q", NULL);
            maker_node(&m, "Reshape", "reshape", "x,q", "r", NULL);
            maker_node(&m, "MatMul", "fc", "r,w", "y", NULL);
            maker_output(&m, "y");
            maker_write(&m, "box/shape.onnx");
            m.graph.n_node = 1;
            maker_node(&m, "Cast", "cast", "q", "f", "to=1");
            maker_node(&m, "MatMul", "fc", "x,w", "h", NULL);
            maker_node(&m, "Mul", "mul", "h,f", "y", NULL);
            maker_write(&m, "box/value.onnx");
            program_run shape = run_program("plan", "box/shape.onnx"), value = run_program("train", "box/value.onnx --loss mse --steps 1");
            if (by[i] == 0) { /* in the shape it is shape arithmetic and refused; a Div that runs is 0 */
                if (shape.status != 3 || !strstr(shape.err, "it divides by 0")) fail_msg("status %d: %s", shape.status, shape.err);
            } else if (mod == 0) { /* a size beyond 2^63 */
                if (shape.status != 3) fail_msg("status %d: %s", shape.status, shape.err);
            }
            if (shape.status >= 128 || value.status >= 128) fail_msg("%s%s", shape.err, value.err);
            program_free(&shape);
            program_free(&value);
        }
}

/* Pipes, devices, folders and /proc in every place of a file: no waiting, one line. */
static void test_special_files(void **state) {
    (void)state;
    static const char *const special[] = {"box/pipe", "box", "/dev/zero", "/dev/null", "/proc/self/mem", "/proc/self/environ",
                                          "/proc/kmsg", "/sys/kernel/notes", "/dev/full"};
    unlink("box/pipe");
    assert_int_equal(mkfifo("box/pipe", 0600), 0);
    write_location("d");
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        const struct {
            const char *which, *format;
        } places[] = {{"plan", "%s"}, {"train", "%s --steps 1"}, {"train", "box/m.onnx --steps 1 --data %s"},
                      {"train", "box/m.onnx --steps 1 --data %s,%s"}, {"train", "box/m.onnx --steps 1 --val-data %s"},
                      {"train", "box/m.onnx --steps 1 --loss ce --class-weights %s"},
                      {"train", "box/m.onnx --steps 1 --plan %s"}, {"train", "box/m.onnx --steps 1 --save %s"},
                      {"plan", "box/m.onnx -o %s"}};
        for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
            char words[256];
            struct stat before, after;
            const bool there = stat(special[i], &before) == 0;
            snprintf(words, sizeof words, places[k].format, special[i], special[i]);
            program_run run = run_program(places[k].which, "%s", words);
            if (run.status == 0 || run.status >= 128 || !strchr(run.err, '\n')) fail_msg("%s: status %d: %s", words, run.status, run.err);
            assert_string_equal(run.out, "");
            /* It is still what it was. */
            if (there) assert_true(stat(special[i], &after) == 0 && before.st_ino == after.st_ino && before.st_mode == after.st_mode);
            program_free(&run);
        }
    }
    static const char *const inside[] = {"pipe", "in", "."};
    for (size_t i = 0; i < 3; i++) {
        char message[200];
        write_location(inside[i]);
        snprintf(message, sizeof message, TENSOR "external data '%s' is not a regular file; put the data file there", inside[i]);
        refused("box/m.onnx", 3, message);
    }
}

/* A type that is a sequence where a shape is looked for. */
static void test_union(void **state) {
    (void)state;
    static maker m;
    static Onnx__TypeProto type, element;
    static Onnx__TypeProto__Sequence sequence;
    onnx__type_proto__init(&type);
    onnx__type_proto__init(&element);
    onnx__type_proto__sequence__init(&sequence);
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, SIDE});
    maker_input(&m, "s", 1, (int64_t[]){1});
    m.inputs[1]->type = &type;
    type.value_case = ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
    type.sequence_type = &sequence;
    sequence.elem_type = &element;
    maker_weight(&m, "w", 2, (int64_t[]){SIDE, SIDE});
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "box/m.onnx");
    program_run run = run_program("plan", "box/m.onnx --dim tokens=3");
    if (run.status != 2 || !strstr(run.err, "no input of box/m.onnx has a dimension of that name")) fail_msg("status %d: %s", run.status, run.err);
    program_free(&run);
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_traversal),   CASE(test_traversal_in_disguise), CASE(test_lengths),           CASE(test_archive),
        CASE(test_saving),      CASE(test_symbolic_link),         CASE(test_key_injection),     CASE(test_hard_link),
        CASE(test_union),       CASE(test_convolution_ranks),     CASE(test_integer_division),  CASE(test_special_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
