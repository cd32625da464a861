/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <apr_general.h>

#include "base/base64url.h"
#include "run.h"

static apr_pool_t *pool;

static void test_encode(void **state)
{
    static const struct {
        const char *data, *text;
    } rows[] = {     /* RFC 4648 section 10, without the padding */
        { "", "" }, { "f", "Zg" }, { "fo", "Zm8" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg" },
        { "fooba", "Zm9vYmE" }, { "foobar", "Zm9vYmFy" }, { "\xfb\xff\xfe", "-__-" },
    };
    static const unsigned char rfc7515_c[] = { 3, 236, 255, 224, 193 };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(base_base64url_encode(rows[i].data, strlen(rows[i].data), pool),
                            rows[i].text);
    assert_string_equal(base_base64url_encode(rfc7515_c, sizeof(rfc7515_c), pool), "A-z_4ME");
}

static void test_is_text(void **state)
{
    (void)state;
    assert_true(base_base64url_is_text("AZaz09-_", 1, 8));
    assert_false(base_base64url_is_text("AZaz09-_", 1, 7));
    assert_false(base_base64url_is_text("AZaz09-_", 9, 20));
    assert_false(base_base64url_is_text("", 1, 8));
    assert_true(base_base64url_is_text("", 0, 8));
    assert_false(base_base64url_is_text(NULL, 0, 8));
    assert_false(base_base64url_is_text("a=", 1, 8));
    assert_false(base_base64url_is_text("a+", 1, 8));
    assert_false(base_base64url_is_text("a/", 1, 8));
    assert_false(base_base64url_is_text("..", 1, 8));
    assert_false(base_base64url_is_text("a\n", 1, 8));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_encode),
    cmocka_unit_test(test_is_text),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
