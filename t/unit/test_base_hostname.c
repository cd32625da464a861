/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "base/hostname.h"
#include "run.h"

static apr_pool_t *pool;

/* count times the text, then the end */
static char *repeat(const char *text, int count, const char *end)
{
    char *made = apr_pstrdup(pool, end);

    while (count-- > 0)
        made = apr_pstrcat(pool, text, made, NULL);
    return made;
}

static const char *from_client(const char *name)
{
    char out[BASE_HOSTNAME_SIZE] = "untouched";

    if (!base_hostname_from_client(out, name, strlen(name))) {
        assert_string_equal(out, "untouched");
        return NULL;
    }
    return apr_pstrdup(pool, out);
}

/* SN-01 to SN-09 and the rows after them. */
static void test_client(void **state)
{
    static const struct {
        const char *name, *out;
    } rows[] = {
        { "foo.com", "foo.com" },               /* SN-01 */
        { "foo.com.", "foo.com" },              /* SN-02 */
        { "a\\b.com", NULL },                   /* SN-03 */
        { "a/b.com", NULL },                    /* SN-04 */
        { "", NULL },                           /* SN-05 */
        { "foo", NULL },                        /* SN-06 */
        { ".foo", NULL },                       /* SN-07 */
        { "foo.", NULL },                       /* SN-08 */
        { "fo.o", "fo.o" },                     /* SN-09 */
        { "EXAMPLE.ORG", "example.org" },
        { "XN--9CAA.com", "xn--9caa.com" },
        { "\xc3\xa9\xc3\xa9.com", NULL },
        { "127.0.0.1", NULL }, { "127.0.0.1.", NULL }, { "a.1", NULL }, { "1.a", "1.a" },
        { "::1", NULL }, { "[::1]", NULL },
        { "a_b.com", NULL }, { "a+b.com", NULL }, { "a b.com", NULL }, { "a:80.com", NULL },
        { "%41.com", NULL }, { "*.com", NULL },
        { "-a.com", NULL }, { "a-.com", NULL }, { "ab--c.com", NULL }, { "a--b.com", "a--b.com" },
        { "abc--d.com", "abc--d.com" }, { "xn--.com", NULL },
        { "../etc.x", NULL }, { "a..b", NULL }, { ".example.org", NULL }, { "a.b..", NULL },
        { ".", NULL }, { "..", NULL }, { "example.org\n", NULL },
        { "x.y.acme.invalid", "x.y.acme.invalid" },
    };
    char out[BASE_HOSTNAME_SIZE];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *made = from_client(rows[i].name);

        if (rows[i].out)
            assert_string_equal(made, rows[i].out);
        else
            assert_null(made);
    }
    assert_false(base_hostname_from_client(out, "a\0b.com", 7));
    assert_true(base_hostname_from_client(out, "a.comXXX", 5));
    assert_string_equal(out, "a.com");
    assert_false(base_hostname_from_client(out, NULL, 0));
}

static void test_lengths(void **state)
{
    char *fits = repeat("aaaaaaa.", 31, "aaaaa");       /* 253 */

    (void)state;
    assert_non_null(from_client(repeat("a", 63, ".com")));
    assert_null(from_client(repeat("a", 64, ".com")));
    assert_non_null(from_client(fits));
    assert_non_null(from_client(apr_pstrcat(pool, fits, ".", NULL)));
    assert_null(from_client(apr_pstrcat(pool, fits, "a", NULL)));
    assert_null(from_client(repeat("a.", 10000, "com")));
}

static void test_config(void **state)
{
    static const struct {
        const char *name, *out;
    } rows[] = {
        { "Example.ORG", "example.org" }, { "example.org.", "example.org" },
        { "\xc3\xa9\xc3\xa9.com", "xn--9caa.com" }, { "\xc3\xa9\xc3\x89.com", "xn--9caa.com" },
        { "XN--9CAA.com", "xn--9caa.com" },
        { "fa\xc3\x9f.de", "xn--fa-hia.de" },
        { "\xcf\x83\xcf\x82.gr", "xn--3xab.gr" },
        { "\xef\xbd\x85xample\xe3\x80\x82org", "example.org" },    /* fullwidth e, full stop */
        { "exam\xc2\xadple.org", "example.org" },                 /* soft hyphen */
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *out = NULL;

        assert_null(base_hostname_from_config(&out, rows[i].name, pool));
        assert_string_equal(out, rows[i].out);
    }
}

static void test_config_reasons(void **state)
{
    static const char bad[] = "has a character that host names cannot have";
    static const char bad_alabel[] =
        "has a broken \"xn--\" label or a character that host names cannot have";
    const struct {
        const char *name, *why;
    } rows[] = {
        { "", "is empty" }, { NULL, "is empty" }, { ".", "is empty" }, { "foo", "has no dot" },
        { "foo.", "has no dot" }, { "*.example.org", "is a wildcard" },
        { "127.0.0.1", "is an IP address" }, { "::1", "is an IP address" },
        { "[2001:db8::1]", "is an IP address" },
        { "\xef\xbc\x91.\xef\xbc\x92.3.4", "is an IP address" },    /* fullwidth digits */
        { "a_b.com", bad }, { "a+b.com", bad }, { "a b.com", bad }, { "a/b.com", bad },
        { "a:80.com", bad }, { "\xc3\xa9_b.com", bad }, { "\xc3\xa9\xef\xbc\x8f.com", bad_alabel },
        { "a..b", "has an empty label" }, { ".example.org", "has an empty label" },
        { "-a.com", "has a label that begins or ends with a hyphen" },
        { "ab--c.com", "has \"--\" as third and fourth character of a label" },
        { "xn--a.com", bad },       /* U+0080 */
        { "xn--99999999.com", bad_alabel },
        { "\xff\xfe.com", "is not UTF-8" },
        { repeat("a", 64, ".com"), "has a label longer than 63 octets" },
        { repeat("\xc3\xa9", 63, ".com"), "has a label longer than 63 octets" },
        { repeat("aaaaaaa.", 31, "aaaaaa"), "is longer than 253 octets" },
        { repeat("\xc3\xa9.", 2000, "com"), "is longer than 253 octets" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *out = "untouched";
        const char *why = base_hostname_from_config(&out, rows[i].name, pool);

        assert_non_null(why);
        assert_string_equal(why, rows[i].why);
        assert_string_equal(out, "untouched");
    }
}

static void test_special_use(void **state)
{
    static const struct {
        const char *name, *suffix;
    } rows[] = {
        { "a.alt", "alt" }, { "x.home.arpa", "home.arpa" }, { "home.arpa", "home.arpa" },
        { "a.internal", "internal" }, { "x.y.acme.invalid", "invalid" }, { "a.local", "local" },
        { "localhost", "localhost" }, { "a.localhost", "localhost" }, { "a.onion", "onion" },
        { "1.0.0.127.in-addr.arpa", "in-addr.arpa" }, { "8.ip6.arpa", "ip6.arpa" },
        { "example.org", NULL }, { "a.test", NULL }, { "a.example", NULL },
        { "notlocal.org", NULL },
        { "a.glocal", NULL }, { "local.org", NULL }, { "myhome.arpa", NULL }, { "e164.arpa", NULL },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *suffix = base_hostname_special_use(rows[i].name);

        if (rows[i].suffix)
            assert_string_equal(suffix, rows[i].suffix);
        else
            assert_null(suffix);
    }
}

static void test_made_up(void **state)
{
    static const char *const made_up[] = {
        "www.www.example.org", "x.x.example.org", "a.www.www.b.example.org",
        "www.www.www.example.org", "api.dev.mail.example.org", "a.api.dev.mail.b.example.org",
        "autodiscover.cpanel.www.example.co.uk", "www.mail.m.a.dev", "ns1.ns2.whm.a.b.example.org",
        "www.www.co.uk",
    };
    static const char *const real[] = {
        "example.org", "www.example.org", "dev.example.org", "api.dev.example.org",
        "api.dev.x.mail.example.org", "www.a.www.example.org", "www.w.example.org",
        "w.www.example.org", "ww.www.example.org", "wwww.www.example.org",
        /* what is registered is nobody's prefix */
        "shop.blog.dev", "www.shop.blog.dev", "github.github.io", "www.www.org", "a.www.www",
        "app.app", "mail.www.example.co.uk", "api.dev.mailer.example.org",
        "ap.dev.mail.example.org", "xn--9caa.xn--9cab.example.org",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(made_up) / sizeof(made_up[0]); i++)
        assert_true(base_hostname_is_made_up(made_up[i]));
    for (i = 0; i < sizeof(real) / sizeof(real[0]); i++)
        assert_false(base_hostname_is_made_up(real[i]));
}

/* Those that control panels and scanners put before every name: one between two others makes three. */
static void test_usual_prefixes(void **state)
{
    static const char *const prefixes[] = {
        "mail", "webmail", "smtp", "imap", "pop", "ftp", "api", "dev", "test", "staging", "admin",
        "blog", "shop", "m", "cdn", "static", "img", "app", "web", "autodiscover", "autoconfig",
        "cpanel", "webdisk", "whm", "ns1", "ns2", "mx", "vpn", "portal", "beta", "demo",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        assert_true(base_hostname_is_made_up(apr_pstrcat(pool, "www.", prefixes[i],
                                                         ".www.example.org", NULL)));
}

static void test_owner(void **state)
{
    static const struct {
        const char *name, *owner;
    } rows[] = {
        { "example.org", "example.org" }, { "a.example.org", "example.org" },
        { "a.b.c.example.org", "example.org" }, { "abc.org", "abc.org" },
        { "www.abc.org", "abc.org" },
        { "a.example.co.uk", "example.co.uk" }, { "b.a.example.co.uk", "example.co.uk" },
        { "example.co.uk", "example.co.uk" }, { "co.uk", "co.uk" },
        { "a.example.com.au", "example.com.au" }, { "com.au", "com.au" },
        { "a.example.de", "example.de" }, { "a.abcd.de", "abcd.de" }, { "a.b.abc.de", "b.abc.de" },
        { "a.example.info", "example.info" }, { "a.b.co.xn--p1ai", "co.xn--p1ai" },
        { "a.b.co.x", "co.x" }, { "a.b.co.a1", "co.a1" }, { "a.b.co.1a", "co.1a" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *owner = base_hostname_owner(rows[i].name);

        assert_string_equal(owner, rows[i].owner);
        assert_ptr_equal(owner, rows[i].name + strlen(rows[i].name) - strlen(owner));
    }
}

static void test_hash(void **state)
{
    (void)state;
    assert_int_equal(base_hostname_hash(""), 0x811c9dc5u);
    assert_int_equal(base_hostname_hash("a"), 0xe40c292cu);
    assert_int_equal(base_hostname_hash("foobar"), 0xbf9cf968u);
    /* A published input whose 32-bit FNV-1a is 0. */
    assert_int_equal(base_hostname_hash("\xcc\x24\x31\xc4"), 1);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_client),
    cmocka_unit_test(test_lengths),
    cmocka_unit_test(test_config),
    cmocka_unit_test(test_config_reasons),
    cmocka_unit_test(test_special_use),
    cmocka_unit_test(test_made_up),
    cmocka_unit_test(test_usual_prefixes),
    cmocka_unit_test(test_owner),
    cmocka_unit_test(test_hash),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
