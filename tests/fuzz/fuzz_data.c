/* Fuzz target: training data. Two bytes choose the container, what a user says of its columns and what the model asks for, the
 * rest is the file or, where a container with checksums would keep the fuzzer out, what is packed into one. What loads is
 * loaded again as data like it, with the same result. */
#include "fuzz_target.h"

#include <string.h>
#include <zlib.h>

#include "data/dataset.h"

enum { MAX_PACKED = 1 << 20 };

/* A buffer that the container is written to; exactly as large as it must be when it is handed on. */
typedef struct sink {
    uint8_t bytes[MAX_PACKED];
    size_t size;
} sink;

static void put(sink *to, const void *bytes, size_t size) {
    if (size > MAX_PACKED - to->size) return;
    if (size) memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void put_number(sink *to, uint32_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) put(to, &(uint8_t){(uint8_t)(i < 4 ? value >> (8 * i) : 0)}, 1);
}

/* window: as deflateInit2 takes it, -15 for bare deflate and 31 for gzip. */
static void deflate_into(sink *to, const uint8_t *bytes, size_t size, int window) {
    z_stream z = {0};
    if (deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK) return;
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)size;
    z.next_out = to->bytes + to->size;
    z.avail_out = (uInt)(MAX_PACKED - to->size);
    if (deflate(&z, Z_FINISH) == Z_STREAM_END) to->size += z.total_out;
    deflateEnd(&z);
}

typedef struct member {
    const char *name;
    const uint8_t *bytes;
    size_t size, packed, offset;
} member;

/* The fields that the local header and the directory have in common. */
static void put_member_head(sink *to, const member *m, int method) {
    put_number(to, 20, 2);
    put_number(to, 0, 2);
    put_number(to, (uint32_t)method, 2);
    put_number(to, 0, 4);
    put_number(to, (uint32_t)crc32(0, m->bytes, (uInt)m->size), 4);
    put_number(to, (uint32_t)m->packed, 4);
    put_number(to, (uint32_t)m->size, 4);
    put_number(to, (uint32_t)strlen(m->name), 2);
    put_number(to, 0, 2);
}

static void put_local(sink *to, member *m, int method) {
    static sink packed;
    packed.size = 0;
    if (method) deflate_into(&packed, m->bytes, m->size, -15);
    else put(&packed, m->bytes, m->size);
    m->packed = packed.size;
    m->offset = to->size;
    put(to, "PK\3\4", 4);
    put_member_head(to, m, method);
    put(to, m->name, strlen(m->name));
    put(to, packed.bytes, packed.size);
}

/* A sound archive of x.npy and y.npy, the first and the second part of `bytes`. */
static void zip_into(sink *to, const uint8_t *bytes, size_t size, int method) {
    const size_t first = size > 2 ? (bytes[0] | (size_t)bytes[1] << 8) % (size - 2) : 0, rest = size > 2 ? size - 2 : 0;
    member members[2] = {{.name = "x.npy", .bytes = bytes + (size - rest), .size = first},
                         {.name = "y.npy", .bytes = bytes + (size - rest) + first, .size = rest - first}};
    to->size = 0;
    for (int i = 0; i < 2; i++) put_local(to, &members[i], method);
    const size_t directory = to->size;
    for (int i = 0; i < 2; i++) {
        put(to, "PK\1\2", 4);
        put_number(to, 20, 2);
        put_member_head(to, &members[i], method);
        put_number(to, 0, 10); /* comment, disk, attributes */
        put_number(to, (uint32_t)members[i].offset, 4);
        put(to, members[i].name, strlen(members[i].name));
    }
    const size_t end = to->size;
    put(to, "PK\5\6\0\0\0\0\2\0\2\0", 12);
    put_number(to, (uint32_t)(end - directory), 4);
    put_number(to, (uint32_t)directory, 4);
    put_number(to, 0, 2);
}

/* The right number of samples, every value readable, every number of a named class a name. */
static void check_usable(const ckpt_dataset *set) {
    double sum = 0;
    for (size_t a = 0; a < set->array_count; a++) {
        const ckpt_array *array = &set->arrays[a];
        FUZZ_EXPECT((uint64_t)array->dim[0] == set->samples);
        for (uint64_t i = 0; i < set->samples * array->values; i++) {
            const double value = array->type == CKPT_ARRAY_F32 ? (double)((const float *)array->data)[i]
                                                               : (double)((const int64_t *)array->data)[i];
            FUZZ_EXPECT(!array->classes.count || (value >= 0 && value < (double)array->classes.count));
            sum += value;
        }
        for (size_t i = 1; i < array->classes.count; i++)
            FUZZ_EXPECT(strcmp(array->classes.name[i - 1], array->classes.name[i]) < 0);
    }
    FUZZ_EXPECT(sum == sum); /* no value is NaN; and every one is read */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const paths[] = {"f.npz", "f.npy", "f.csv", "f.idx", "f.gz", "f.npz", "f.npz", "f"};
    static const ckpt_data_options said[] = {{0},
                                             {.target = "y"},
                                             {.drop = "0"},
                                             {.features = "1-2", .target = "y*"},
                                             {.features = "x*,a*"},
                                             {.target = "1,0"},
                                             {.drop = "id,z*", .features = "x"},
                                             {.target = "x", .features = "x"}};
    static sink packed;
    if (size < 2) return 0;
    const unsigned container = bytes[0] & 7, ask = bytes[1];
    const char *path = container == 4 && bytes[0] & 0x80 ? "f.csv.gz" : paths[container];
    ckpt_data_options options = said[bytes[0] >> 3 & 7];
    const ckpt_data_request want[2] = {
        {.name = "input", .aliases = {"x"}, .want = ask & 1 ? CKPT_WANT_EITHER : CKPT_WANT_FLOAT, .values = ask & 2 ? 4 : 0},
        {.name = "y",
         .role = CKPT_DATA_TARGET,
         .want = ask & 4 ? CKPT_WANT_INTEGER : CKPT_WANT_EITHER,
         .values = ask & 64 ? 1 : 0,
         .integer_values = ask & 64 ? 1 : 0,
         .classes = ask & 8 ? 3 : 0,
         .unit_range = (ask & 16) != 0},
    };
    ckpt_dataset set;
    ckpt_error err;
    bytes += 2, size -= 2;
    packed.size = 0;
    if (container == 4) deflate_into(&packed, bytes, size, 31);
    if (container == 5 || container == 6) zip_into(&packed, bytes, size, container == 6 ? 8 : 0);
    if (packed.size) bytes = packed.bytes, size = packed.size;
    if (ckpt_dataset_load_memory(path, bytes, size, want, ask & 32 ? 2 : 1, &options, &set, &err) != CKPT_OK) return 0;
    check_usable(&set);
    options.like = &set;
    ckpt_dataset again;
    const ckpt_status status = ckpt_dataset_load_memory(path, bytes, size, want, ask & 32 ? 2 : 1, &options, &again, &err);
    FUZZ_EXPECT(status == CKPT_OK);
    FUZZ_EXPECT(again.samples == set.samples);
    for (size_t a = 0; a < set.array_count; a++)
        FUZZ_EXPECT(memcmp(set.arrays[a].data, again.arrays[a].data, set.samples * ckpt_array_sample_bytes(&set.arrays[a])) == 0);
    ckpt_dataset_free(&again);
    ckpt_dataset_free(&set);
    return 0;
}
