/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_general.h>
#include <cmocka.h>

#include "challenge/http01.h"
#include "challenge/tlsalpn01.h"
#include "run.h"

static void test_find(void **state)
{
    (void)state;
    assert_ptr_equal(challenge_find("http-01"), &challenge_http01);
    assert_ptr_equal(challenge_find("tls-alpn-01"), &challenge_tlsalpn01);
    assert_null(challenge_find("dns-01"));
    assert_null(challenge_find("HTTP-01"));
    assert_null(challenge_find(""));
    assert_null(challenge_find(NULL));
    assert_string_equal(challenge_http01.type, "http-01");
    assert_string_equal(challenge_tlsalpn01.type, "tls-alpn-01");
}

static void test_types(void **state)
{
    apr_pool_t *pool = NULL;

    (void)state;
    apr_pool_create(&pool, NULL);
    assert_string_equal(challenge_types(pool), "tls-alpn-01, http-01");
    apr_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_find), cmocka_unit_test(test_types) };

    return RUN_TESTS(tests);
}
