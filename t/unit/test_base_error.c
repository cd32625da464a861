/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "base/error.h"

static void test_copy_text(void **state)
{
    static const struct {
        const char *from, *to;
    } rows[] = {
        { "plain", "plain" },
        { "a\nb\r\tc\x7f", "a?b??c?" },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "\x1b[31m", "?[31m" },
        { "a\xc2\x9b" "b", "a?b" },             /* C1 control */
        { "\xff\xc3", "??" },
        { "\xc0\xaf", "??" },                   /* overlong */
        { "\xed\xa0\x80", "???" },              /* surrogate */
        { "\xf4\x90\x80\x80", "????" },         /* beyond U+10FFFF */
        { "\xe2\x82", "??" },
        { NULL, "" },
    };
    char out[64];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        base_error_copy_text(out, sizeof(out), rows[i].from);
        assert_string_equal(out, rows[i].to);
    }
    /* Cut before a letter, never within it. */
    base_error_copy_text(out, 4, "ab\xe2\x82\xac");
    assert_string_equal(out, "ab");
    base_error_copy_text(out, 1, "ab");
    assert_string_equal(out, "");
    out[0] = 'x';
    base_error_copy_text(out, 0, "ab");
    assert_int_equal(out[0], 'x');
}

static void test_set(void **state)
{
    base_error_t err;
    char big[2 * BASE_ERROR_DETAIL_MAX];

    (void)state;
    memset(&err, 0x55, sizeof(err));
    assert_int_equal(base_error_set(&err, BASE_ERROR_GONE, APR_ENOENT, "no %s\n%d", "such", 7),
                     APR_ENOENT);
    assert_int_equal(err.kind, BASE_ERROR_GONE);
    assert_int_equal(err.status, APR_ENOENT);
    assert_int_equal(err.http_status, 0);
    assert_true(err.retry_at == 0);
    assert_string_equal(err.type, "");
    assert_string_equal(err.detail, "no such?7");

    /* Its own text as an argument. */
    base_error_set(&err, BASE_ERROR_LOCAL, APR_EGENERAL, "again: %s", err.detail);
    assert_string_equal(err.detail, "again: no such?7");

    assert_int_equal(base_error_set(NULL, BASE_ERROR_LOCAL, APR_EACCES, "x"), APR_EACCES);
    assert_int_not_equal(base_error_set(&err, BASE_ERROR_LOCAL, APR_SUCCESS, "x"), APR_SUCCESS);
    assert_int_not_equal(err.status, APR_SUCCESS);

    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    memcpy(big + BASE_ERROR_DETAIL_MAX - 2, "\xe2\x82\xac", 3);
    base_error_set(&err, BASE_ERROR_LOCAL, APR_EGENERAL, "%s", big);
    assert_int_equal(strlen(err.detail), BASE_ERROR_DETAIL_MAX - 2);
    assert_null(strchr(err.detail, '?'));

    base_error_clear(&err);
    assert_int_equal(err.kind, BASE_ERROR_NONE);
    assert_int_equal(err.status, APR_SUCCESS);
    assert_string_equal(err.detail, "");
}

static void test_openssl(void **state)
{
    base_error_t err;

    (void)state;
    ERR_put_error(ERR_LIB_X509, 0, ERR_R_MALLOC_FAILURE, __FILE__, __LINE__);
    assert_int_equal(base_error_set_openssl(&err, "cannot"), APR_EGENERAL);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_int_equal(strncmp(err.detail, "cannot: ", 8), 0);
    assert_non_null(strstr(err.detail, "malloc"));
    assert_int_equal(ERR_peek_error(), 0);
    base_error_set_openssl(&err, "cannot");
    assert_string_equal(err.detail, "cannot: no reason given");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy_text),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_openssl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
