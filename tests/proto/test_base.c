/* Messages, pools, sizes and hashes of src/base. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "base/name_pick.h"
#include "base/pool.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/units.h"

static void messages_escape_control_bytes(void **state) {
    (void)state;
    ckpt_error err;
    assert_int_equal(ckpt_fail(&err, CKPT_MODEL, "node '%s'", "a\x1b[2J\nb\x7f"), CKPT_MODEL);
    assert_string_equal(err.message, "node 'a\\x1b[2J\\x0ab\\x7f'");
    assert_int_equal(ckpt_fail_in(&err, "m%d.onnx", 1), CKPT_MODEL);
    assert_string_equal(err.message, "m1.onnx: node 'a\\x1b[2J\\x0ab\\x7f'");
    assert_int_equal(ckpt_fail(NULL, CKPT_NOMEM, "x"), CKPT_NOMEM);
    char text[3000];
    memset(text, '\n', sizeof text - 1);
    text[sizeof text - 1] = 0;
    ckpt_fail(&err, CKPT_MODEL, "%s", text);
    assert_true(strlen(err.message) < CKPT_MESSAGE_SIZE);
    assert_null(strchr(err.message, '\n'));
}

static void exit_statuses(void **state) {
    (void)state;
    assert_int_equal(ckpt_exit_status(CKPT_OK), 0);
    assert_int_equal(ckpt_exit_status(CKPT_USAGE), 2);
    assert_int_equal(ckpt_exit_status(CKPT_INTERRUPTED), 130);
    assert_string_equal(ckpt_status_name(CKPT_NOMEM), "NOMEM");
    assert_string_equal(ckpt_status_text(CKPT_NOMEM), "out of memory");
}

static void pools(void **state) {
    (void)state;
    ckpt_pool pool = {0};
    for (size_t size = 0; size < 200000; size = size * 3 + 1) {
        unsigned char *bytes = ckpt_pool_alloc(&pool, size, 1);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++) assert_int_equal(bytes[i], 0);
        memset(bytes, 0xff, size);
    }
    assert_null(ckpt_pool_alloc(&pool, SIZE_MAX / 2, 3));
    assert_null(ckpt_pool_alloc(&pool, SIZE_MAX, 1));
    assert_string_equal(ckpt_pool_printf(&pool, "%s-%d", "a", 7), "a-7");
    assert_string_equal(ckpt_pool_strndup(&pool, "abc", 2), "ab");
    int *old = ckpt_pool_array(&pool, 2, int);
    old[0] = 1, old[1] = 2;
    int *grown = ckpt_pool_grow(&pool, old, 2, 4, sizeof *old);
    assert_true(grown[0] == 1 && grown[1] == 2 && grown[2] == 0 && grown[3] == 0);
    ckpt_pool_free(&pool);
    ckpt_pool_free(&pool);
}

static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"512", 512},
        {"512B", 512},
        {"1k", 1000},
        {"1K", 1000},
        {"1kB", 1000},
        {"2M", 2000000},
        {"3GB", 3000000000},
        {"1T", 1000000000000},
        {"1KiB", 1024},
        {"1.5GiB", 1610612736},
        {"8GiB", UINT64_C(8) << 30},
        {"1TiB", UINT64_C(1) << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    static const char *const bad[] = {"",           "-1",    "B",   "1X",  "1 GiBs", "1.2.3",
                                      "0x10",       "1e400", "nan", "inf", "1GiB ",  "18446744073709551616",
                                      "16777216TiB"};
    ckpt_error err;
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (ckpt_units_parse_size(good[i].text, &bytes, &err) != CKPT_OK)
            fail_msg("'%s': %s", good[i].text, err.message);
        if (bytes != good[i].bytes) fail_msg("'%s' gives %llu", good[i].text, (unsigned long long)bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (ckpt_units_parse_size(bad[i], &bytes, &err) != CKPT_USAGE) fail_msg("'%s' is taken", bad[i]);
    }
    char text[CKPT_SIZE_TEXT];
    assert_string_equal(ckpt_units_format_size(512, text), "512 B");
    assert_string_equal(ckpt_units_format_size(1536, text), "1.50 KiB");
}

static void expect_hash(const char *text, size_t length, size_t times, const char *expected) {
    ckpt_sha256 hash;
    ckpt_sha256_start(&hash);
    for (size_t i = 0; i < times; i++) ckpt_sha256_add(&hash, text, length);
    char hex[65];
    ckpt_sha256_hex(&hash, hex);
    assert_string_equal(hex, expected);
}

/* The example messages of FIPS 180-4. */
static void sha256(void **state) {
    (void)state;
    expect_hash("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_hash("abc", 3, 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 1,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    static const char *million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    expect_hash("a", 1, 1000000, million);
    expect_hash("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                "aaaaaaaa",
                100, 10000, million);
}

static const char *nth_name(const void *names, int i) { return ((const char *const *)names)[i]; }

/* Names before indices, indices before globs; in the order of the list, each once. */
static void picks(void **state) {
    (void)state;
    static const char *const names[] = {"fc1", "fc2", "3", "block.0", "block.1"};
    static const struct {
        const char *text, *order, *message;
    } cases[] = {
        {"fc2,fc1", "10", NULL}, {"block*, 0", "340", NULL}, {"3", "2", NULL}, {"0-1,fc*,4", "014", NULL}, {"fc?,*", "01234", NULL},
        {"5", NULL, "'5' in --drop is out of range: there are columns 0 to 4"},
        {"2-1", NULL, "the range '2-1' in --drop ends before it begins"},
        {"fc1,,fc2", NULL, "--drop 'fc1,,fc2' has an item that is empty"},
        {"fc11", NULL, "no column is named 'fc11' in --drop; the nearest are 'fc1' (0), 'fc2' (1), '3' (2)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const ckpt_name_choice choice = {.text = cases[i].text, .option = "--drop", .what = "column", .count = 5, .name = nth_name,
                                         .context = names};
        bool picked[5] = {false};
        int order[5], count = 0;
        char text[8] = "";
        ckpt_error err = {.message = ""};
        const ckpt_status status = ckpt_name_pick(&choice, picked, order, &count, &err);
        assert_int_equal(status, cases[i].message ? CKPT_USAGE : CKPT_OK);
        if (cases[i].message) assert_string_equal(err.message, cases[i].message);
        for (int k = 0; k < count; k++) {
            text[k] = (char)('0' + order[k]);
            assert_true(picked[order[k]]);
        }
        if (!cases[i].message) assert_string_equal(text, cases[i].order);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_escape_control_bytes),
        cmocka_unit_test(exit_statuses),
        cmocka_unit_test(pools),
        cmocka_unit_test(sizes),
        cmocka_unit_test(sha256),
        cmocka_unit_test(picks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
