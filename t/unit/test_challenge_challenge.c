/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_general.h>
#include <cmocka.h>

#include "challenge/dns01.h"
#include "challenge/dnspersist01.h"
#include "challenge/http01.h"
#include "challenge/tlsalpn01.h"
#include "run.h"

static void test_find(void **state)
{
    (void)state;
    assert_ptr_equal(challenge_find("http-01"), &challenge_http01);
    assert_ptr_equal(challenge_find("tls-alpn-01"), &challenge_tlsalpn01);
    assert_ptr_equal(challenge_find("dns-01"), &challenge_dns01);
    assert_ptr_equal(challenge_find("dns-persist-01"), &challenge_dnspersist01);
    assert_null(challenge_find("dns-account-01"));
    assert_null(challenge_find("HTTP-01"));
    assert_null(challenge_find(""));
    assert_null(challenge_find(NULL));
    assert_string_equal(challenge_http01.type, "http-01");
    assert_string_equal(challenge_tlsalpn01.type, "tls-alpn-01");
}

/* RFC 8555 section 7.1.3, RFC 8738: wildcards by DNS only, addresses never by DNS. */
static void test_what_they_prove(void **state)
{
    static const char *const by_server[] = { "http-01", "tls-alpn-01" };
    static const char *const by_dns[] = { "dns-01", "dns-persist-01" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        const challenge_kind_t *server = challenge_find(by_server[i]), *dns = challenge_find(by_dns[i]);

        assert_int_equal(server->proves, BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_IP);
        assert_false(server->uses_dns);
        assert_non_null(server->check);
        assert_int_equal(dns->proves, BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_WILDCARD);
        assert_true(dns->uses_dns);
    }
}

static void test_types(void **state)
{
    apr_pool_t *pool = NULL;

    (void)state;
    apr_pool_create(&pool, NULL);
    assert_string_equal(challenge_types(pool), "tls-alpn-01, http-01, dns-01, dns-persist-01");
    apr_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find), cmocka_unit_test(test_what_they_prove), cmocka_unit_test(test_types)
    };

    return RUN_TESTS(tests);
}
