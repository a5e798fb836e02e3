/* libFuzzer target: the first byte chooses the format's name and the requests, the rest is the file.
 *
 *     cmake --preset fuzz && cmake --build build-fuzz --target fuzz_data && build-fuzz/.../fuzz_data
 */
#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const paths[] = {"f.npz", "f.npy", "f.csv", "f.idx"};
    if (!size) return 0;
    const ckpt_data_request want[2] = {
        {.name = "input", .aliases = {"x"}, .want = bytes[0] & 4 ? CKPT_WANT_EITHER : CKPT_WANT_FLOAT},
        {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER, .classes = 10},
    };
    ckpt_dataset set;
    ckpt_error err;
    size_t count = bytes[0] & 8 ? 2 : 1;
    if (ckpt_dataset_load_memory(paths[bytes[0] & 3], bytes + 1, size - 1, want, count, &set, &err) ==
        CKPT_OK)
        ckpt_dataset_free(&set);
    return 0;
}
