/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "base/identifier.h"
#include "run.h"

static apr_pool_t *pool;

static int set_up(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL) != APR_SUCCESS;
}

static int tear_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static void test_kind(void **state)
{
    (void)state;
    assert_int_equal(base_identifier_kind("www.example.org"), BASE_IDENTIFIER_DNS);
    assert_int_equal(base_identifier_kind("1.0.0.127.in-addr.arpa"), BASE_IDENTIFIER_DNS);
    assert_int_equal(base_identifier_kind("*.example.org"), BASE_IDENTIFIER_WILDCARD);
    assert_int_equal(base_identifier_kind("192.0.2.1"), BASE_IDENTIFIER_IP);
    assert_int_equal(base_identifier_kind("2001:db8::1"), BASE_IDENTIFIER_IP);
    assert_string_equal(base_identifier_base("*.example.org"), "example.org");
    assert_string_equal(base_identifier_base("www.example.org"), "www.example.org");
    assert_string_equal(base_identifier_base("::1"), "::1");
}

static void test_from_config(void **state)
{
    static const struct {
        const char *text, *name;
    } good[] = {
        { "WWW.Example.org.", "www.example.org" },
        { "*.Example.ORG", "*.example.org" },
        { "b\xc3\xbc" "cher.example", "xn--bcher-kva.example" },
        { "*.b\xc3\xbc" "cher.example", "*.xn--bcher-kva.example" },
        { "192.0.2.1", "192.0.2.1" },
        { "2001:DB8:0:0:0:0:0:1", "2001:db8::1" },
        { "[2001:db8::1]", "2001:db8::1" },
        { "::1", "::1" },
        { "::ffff:192.0.2.1", "192.0.2.1" },
        { "[::ffff:c000:201]", "192.0.2.1" },
        { "2001:0:0:1:0:0:0:1", "2001:0:0:1::1" },
    };
    static const struct {
        const char *text, *reason;
    } bad[] = {
        { "", "is empty" },
        { "*", "whole first label" },
        { "*.", "is empty" },
        { "*.org", "has no dot" },
        { "*.*.example.org", "whole first label" },
        { "w*.example.org", "whole first label" },
        { "www.*.example.org", "whole first label" },
        { "*.192.0.2.1", "is an IP address" },
        { "*.::1", "is an IP address" },
        { "[192.0.2.1]", "" },
        { "192.0.2", "is an IP address" },
        { "192.0.2.256", "is an IP address" },
        { "2001:db8::g", "" },
        { "[2001:db8::1", "" },
        { "fe80::1%eth0", "" },
        { "example", "has no dot" },
        { "-x.example", "hyphen" },
    };
    const char *name;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        name = NULL;
        assert_null(base_identifier_from_config(&name, good[i].text, pool));
        assert_string_equal(name, good[i].name);
        /* the one spelling stays as it is */
        assert_null(base_identifier_from_config(&name, name, pool));
        assert_string_equal(name, good[i].name);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *reason = base_identifier_from_config(&name, bad[i].text, pool);

        assert_non_null(reason);
        assert_non_null(strstr(reason, bad[i].reason));
    }
    assert_non_null(base_identifier_from_config(&name, NULL, pool));
}

/* A name of so many octets, in labels of at most 63. */
static const char *make_long(size_t len)
{
    char *name = apr_palloc(pool, len + 1);

    memset(name, 'a', len);
    for (size_t i = 60; i + 2 < len; i += 60) {
        name[i] = '.';
    }
    name[len] = '\0';
    return name;
}

static void test_long_names(void **state)
{
    const char *longest = make_long(BASE_HOSTNAME_MAX - 2), *name;
    char stem[BASE_IDENTIFIER_STEM_SIZE], again[BASE_HOSTNAME_SIZE];

    (void)state;
    assert_null(base_identifier_from_config(&name, apr_pstrcat(pool, "*.", longest, NULL), pool));
    base_identifier_stem(stem, name);
    assert_string_equal(base_identifier_from_stem(again, stem, strlen(stem)), name);
    name = apr_pstrcat(pool, "*.", make_long(BASE_HOSTNAME_MAX - 1), NULL);
    assert_non_null(base_identifier_from_config(&name, name, pool));
    name = make_long(BASE_HOSTNAME_MAX);
    assert_string_equal(base_identifier_stem(stem, name), name);
    assert_string_equal(base_identifier_from_stem(again, stem, strlen(stem)), name);
    assert_null(base_identifier_from_stem(again, make_long(BASE_HOSTNAME_MAX + 1), BASE_HOSTNAME_MAX + 1));
}

static void test_wildcard_of(void **state)
{
    char out[BASE_HOSTNAME_SIZE];

    (void)state;
    assert_string_equal(base_identifier_wildcard_of(out, "www.example.org"), "*.example.org");
    assert_string_equal(base_identifier_wildcard_of(out, "a.b.example.org"), "*.b.example.org");
    assert_null(base_identifier_wildcard_of(out, "example.org"));
    assert_null(base_identifier_wildcard_of(out, "org"));
    assert_null(base_identifier_wildcard_of(out, ".example.org"));
    assert_null(base_identifier_wildcard_of(out, "*.example.org"));
    assert_null(base_identifier_wildcard_of(out, "192.0.2.1"));
    assert_null(base_identifier_wildcard_of(out, "2001:db8::1"));
    assert_null(base_identifier_wildcard_of(out, ""));
}

static void test_addresses(void **state)
{
    static const unsigned char mapped[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1 };
    static const unsigned char six[16] = { 0x20, 1, 0x0d, 0xb8, [15] = 1 };
    unsigned char bytes[16];
    char out[BASE_HOSTNAME_SIZE];

    (void)state;
    assert_int_equal(base_identifier_address("192.0.2.1", bytes), 4);
    assert_memory_equal(bytes, mapped + 12, 4);
    assert_int_equal(base_identifier_address("2001:db8::1", bytes), 16);
    assert_memory_equal(bytes, six, 16);
    assert_int_equal(base_identifier_address("::ffff:192.0.2.1", bytes), 4);
    assert_memory_equal(bytes, mapped + 12, 4);
    assert_int_equal(base_identifier_address("example.org", bytes), 0);
    assert_int_equal(base_identifier_address("", bytes), 0);
    assert_string_equal(base_identifier_from_address(out, mapped, 16), "192.0.2.1");
    assert_string_equal(base_identifier_from_address(out, mapped + 12, 4), "192.0.2.1");
    assert_string_equal(base_identifier_from_address(out, six, 16), "2001:db8::1");
}

static void test_reverse(void **state)
{
    static const char *const addresses[] = { "127.0.0.1", "192.0.2.10", "::1", "2001:db8::a:1" };
    static const char *const wrong[] = {
        "in-addr.arpa", ".in-addr.arpa", "1.in-addr.arpa", "0.0.127.in-addr.arpa", "1.0.0.256.in-addr.arpa",
        "01.0.0.127.in-addr.arpa", "1.1.0.0.127.in-addr.arpa", "1.0.0.127.in-addr.arpa.",
        "x.1.0.0.127.in-addr.arpa",
        "1.0.0.127.ip6.arpa", "ip6.arpa",
        "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        "00.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        "g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        "1.0.2.0.0.0.0.c.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",    /* mapped */
        "www.example.org", "",
    };
    char out[BASE_HOSTNAME_SIZE], back[BASE_HOSTNAME_SIZE];

    (void)state;
    assert_string_equal(base_identifier_reverse(out, "127.0.0.1"), "1.0.0.127.in-addr.arpa");
    assert_string_equal(base_identifier_reverse(out, "::1"),
                        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa");
    assert_null(base_identifier_reverse(out, "example.org"));
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        assert_non_null(base_identifier_reverse(out, addresses[i]));
        assert_string_equal(base_identifier_from_reverse(back, out), addresses[i]);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_null(base_identifier_from_reverse(out, wrong[i]));
    }
}

static void test_is_same(void **state)
{
    (void)state;
    assert_true(base_identifier_is_same("WWW.example.org.", "www.example.org"));
    assert_true(base_identifier_is_same("*.example.org", "*.EXAMPLE.org"));
    assert_true(base_identifier_is_same("2001:DB8:0::1", "2001:db8::1"));
    assert_true(base_identifier_is_same("[2001:db8::1]", "2001:db8::1"));
    assert_true(base_identifier_is_same("::ffff:192.0.2.1", "192.0.2.1"));
    assert_false(base_identifier_is_same("192.0.2.1", "192.0.2.10"));
    assert_false(base_identifier_is_same("192.0.2.1", "example.org"));
    assert_false(base_identifier_is_same("example.org", "192.0.2.1"));
    assert_false(base_identifier_is_same("*.example.org", "example.org"));
    assert_false(base_identifier_is_same("a.example.org", "b.example.org"));
    assert_false(base_identifier_is_same("", "example.org"));
}

static void test_private_addresses(void **state)
{
    static const char *const inside[] = {
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1",
        "172.31.255.255", "192.0.2.7", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
        "203.0.113.9", "224.0.0.1", "255.255.255.255", "::", "::1", "64:ff9b:1::1", "2001:db8::1", "3fff::1",
        "fc00::1", "fdff::1", "fe80::1", "febf::1", "ff02::1",
    };
    static const char *const outside[] = {
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "172.15.0.1", "172.32.0.0", "192.0.1.1", "192.167.1.1", "198.17.1.1", "198.20.0.0", "223.255.255.255",
        "2001:db7::1", "2001:db9::1", "2606:4700::1", "3ffe::1", "3fff:1000::1", "fbff::1",
        "fec0::1", "example.org",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        assert_true(base_identifier_is_private_address(inside[i]));
    }
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        assert_false(base_identifier_is_private_address(outside[i]));
    }
}

static void test_stems(void **state)
{
    static const struct {
        const char *name, *stem;
    } rows[] = {
        { "www.example.org", "www.example.org" },
        { "*.example.org", "example.org+wildcard" },
        { "192.0.2.1", "192.0.2.1" },
        { "2001:db8::1", "ip6-2001-db8--1" },
        { "::1", "ip6---1" },
    };
    static const char *const wrong[] = {
        "", "+wildcard", "*.example.org", "example+wildcard", "Example.org", "example.org.",
        "example.org+rsa",
        "example.org+wildcard+rsa", "ip6-", "ip6-2001-db8-0-1", "ip6-2001-DB8--1", "ip6-0-0-0-0-0-0-0-1",
        "ip6---ffff-c000-201", "2001:db8::1", "[2001-db8--1]", "192.0.2.01", "192.0.2", "acme_account+key",
        "ip6---1+wildcard", "192.0.2.1+wildcard", "example",
    };
    char stem[BASE_IDENTIFIER_STEM_SIZE], name[BASE_HOSTNAME_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(base_identifier_stem(stem, rows[i].name), rows[i].stem);
        assert_string_equal(base_identifier_from_stem(name, stem, strlen(stem)), rows[i].name);
    }
    assert_string_equal(base_identifier_from_stem(name, "example.org+rsa", 11), "example.org");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_null(base_identifier_from_stem(name, wrong[i], strlen(wrong[i])));
    }
    assert_null(base_identifier_from_stem(name, "a.example\0.org", 14));
}

static void test_unicode(void **state)
{
    char out[BASE_IDENTIFIER_UNICODE_SIZE];

    (void)state;
    assert_string_equal(base_identifier_unicode(out, "xn--bcher-kva.example"), "b\xc3\xbc" "cher.example");
    assert_string_equal(base_identifier_unicode(out, "*.xn--bcher-kva.example"),
                        "*.b\xc3\xbc" "cher.example");
    assert_null(base_identifier_unicode(out, "www.example.org"));
    assert_null(base_identifier_unicode(out, "192.0.2.1"));
    assert_null(base_identifier_unicode(out, "xn--.example"));
    assert_null(base_identifier_unicode(out, "xn--99999999999.example"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_kind),
        TEST(test_from_config),
        TEST(test_long_names),
        TEST(test_wildcard_of),
        TEST(test_addresses),
        TEST(test_reverse),
        TEST(test_is_same),
        TEST(test_private_addresses),
        TEST(test_stems),
        TEST(test_unicode)
    };

    return RUN_TESTS(tests);
}
