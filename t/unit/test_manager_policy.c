/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "acme/http.h"
#include "challenge/challenge.h"
#include "challenge/dns_command.h"
#include "crypto/csr.h"
#include "manager/policy.h"
#include "run.h"

#define SECOND apr_time_from_sec(1)
#define MINUTE apr_time_from_sec(60)
#define HOUR apr_time_from_sec(3600)
#define DAY (24 * HOUR)
#define START apr_time_from_sec(1700000000)
#define NAMES 3000

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

static void test_names(void **state)
{
    manager_policy_settings_t one = { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
    manager_policy_settings_t two = { .key_types = { CRYPTO_KEY_RSA2048 }, .kinds = 1 };
    manager_policy_t *policy = manager_policy_create(pool);
    const apr_array_header_t *names;
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    (void)state;
    assert_null(manager_policy_find(policy, "a.example"));
    manager_policy_add(policy, "b.example", &one, 1);
    manager_policy_add(policy, "a.example", &two, 0);
    manager_policy_add(policy, "b.example", &two, 1);
    assert_true(manager_policy_find(policy, "b.example")->alias);
    assert_false(manager_policy_find(policy, "a.example")->alias);
    manager_policy_add(policy, "b.example", &two, 0);
    assert_false(manager_policy_find(policy, "b.example")->alias);
    manager_policy_add(policy, "b.example", &two, 1);
    assert_false(manager_policy_find(policy, "b.example")->alias);
    assert_ptr_equal(manager_policy_find(policy, "b.example")->settings, &one);
    assert_null(manager_policy_find(policy, "c.example"));
    names = manager_policy_names(policy);
    assert_int_equal(names->nelts, 2);
    assert_string_equal(APR_ARRAY_IDX(names, 0, manager_policy_name_t *)->name, "b.example");
    assert_string_equal(APR_ARRAY_IDX(names, 1, manager_policy_name_t *)->name, "a.example");
    assert_string_equal(manager_policy_cache_key(manager_policy_find(policy, "a.example"), key),
                        "a.example+rsa");
    assert_string_equal(manager_policy_cache_key(manager_policy_find(policy, "b.example"), key),
                        "b.example");
}

static apr_array_header_t *challenges(const char *first, const char *second)
{
    apr_array_header_t *list = apr_array_make(pool, 2, sizeof(const challenge_kind_t *));

    APR_ARRAY_PUSH(list, const challenge_kind_t *) = challenge_find(first);
    if (second) {
        APR_ARRAY_PUSH(list, const challenge_kind_t *) = challenge_find(second);
    }
    return list;
}

static apr_array_header_t *extensions(const char *oid, int critical, const char *value)
{
    apr_array_header_t *list = apr_array_make(pool, 1, sizeof(crypto_csr_extension_t));
    crypto_csr_extension_t *extension = apr_array_push(list);

    extension->oid = oid;
    extension->critical = critical;
    extension->value = (const unsigned char *)value;
    extension->len = strlen(value);
    return list;
}

static void test_settings_equal(void **state)
{
    manager_policy_settings_t a = { .challenges = challenges("http-01", NULL),
                                    .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
    manager_policy_settings_t b = a;

    (void)state;
    assert_true(manager_policy_settings_equal(&a, &a));
    b.challenges = challenges("http-01", NULL);
    b.extensions = apr_array_make(pool, 1, sizeof(crypto_csr_extension_t));
    b.renewal.percent = -1;
    assert_true(manager_policy_settings_equal(&a, &b));
    b.key_types[0] = CRYPTO_KEY_P384;
    assert_false(manager_policy_settings_equal(&a, &b));
    b.key_types[0] = a.key_types[0];
    b.key_types[1] = CRYPTO_KEY_RSA2048;    /* of no effect */
    assert_true(manager_policy_settings_equal(&a, &b));
    b.kinds = 2;
    assert_false(manager_policy_settings_equal(&a, &b));
    b.kinds = 1;
    b.retire = DAY;
    assert_false(manager_policy_settings_equal(&a, &b));
    b.retire = 0;
    b.challenges = challenges("http-01", "tls-alpn-01");
    assert_false(manager_policy_settings_equal(&a, &b));
    a.challenges = challenges("tls-alpn-01", "http-01");
    assert_false(manager_policy_settings_equal(&a, &b));
    a.challenges = b.challenges;
    a.renewal.percent = 30;
    assert_false(manager_policy_settings_equal(&a, &b));
    b.renewal.percent = 30;
    assert_true(manager_policy_settings_equal(&a, &b));
    a.renewal.before = DAY;
    assert_false(manager_policy_settings_equal(&a, &b));
    b.renewal.before = DAY;
    b.renewal.percent = 20;     /* of no effect */
    assert_true(manager_policy_settings_equal(&a, &b));
    a.extensions = extensions("1.2.3", 0, "abc");
    assert_false(manager_policy_settings_equal(&a, &b));
    b.extensions = extensions("1.2.3", 0, "abc");
    assert_true(manager_policy_settings_equal(&a, &b));
    b.extensions = extensions("1.2.3", 1, "abc");
    assert_false(manager_policy_settings_equal(&a, &b));
    b.extensions = extensions("1.2.4", 0, "abc");
    assert_false(manager_policy_settings_equal(&a, &b));
    b.extensions = extensions("1.2.3", 0, "abd");
    assert_false(manager_policy_settings_equal(&a, &b));
}

/* How records are set counts, and where a vhost's words stand in memory does not. */
static void test_settings_equal_dns(void **state)
{
    const char *const one[] = { "/bin/one", "a", NULL }, *const same[] = { "/bin/one", "a", NULL };
    const char *const more[] = { "/bin/one", "a", "b", NULL }, *const other[] = { "/bin/one", "b", NULL };
    challenge_dns_command_t first = { .argv = one }, second = { .argv = same };
    challenge_dns_t a_dns = { .command = &first, .wait = MINUTE };
    challenge_dns_t b_dns = { .command = &second, .wait = MINUTE };
    manager_policy_settings_t a = { .challenges = challenges("dns-01", NULL),
                                    .key_types = { CRYPTO_KEY_P256 }, .kinds = 1, .dns = &a_dns };
    manager_policy_settings_t b = a;
    const manager_ca_config_t ca = { .acme = { .id = "x", .directory_url = "https://ca.example/dir" } };
    const apr_array_header_t *cas;
    apr_uint64_t print;

    (void)state;
    cas = apr_array_make(pool, 1, sizeof(const manager_ca_config_t *));
    APR_ARRAY_PUSH((apr_array_header_t *)cas, const manager_ca_config_t *) = &ca;
    print = manager_policy_fingerprint(&a, cas);
    b.dns = &b_dns;
    assert_true(manager_policy_settings_equal(&a, &b));
    assert_true(manager_policy_fingerprint(&b, cas) == print);
    b_dns.wait = HOUR;
    assert_false(manager_policy_settings_equal(&a, &b));
    assert_true(manager_policy_fingerprint(&b, cas) == print);
    b_dns.wait = MINUTE;
    second.argv = more;
    assert_false(manager_policy_settings_equal(&a, &b));
    assert_false(manager_policy_settings_equal(&b, &a));
    assert_true(manager_policy_fingerprint(&b, cas) != print);
    second.argv = other;
    assert_false(manager_policy_settings_equal(&a, &b));
    second.argv = same;
    second.secret_file = "/secret";
    assert_false(manager_policy_settings_equal(&a, &b));
    first.secret_file = "/secret";
    assert_true(manager_policy_settings_equal(&a, &b));
    second.timeout = HOUR;
    assert_false(manager_policy_settings_equal(&a, &b));
    b_dns.command = NULL;
    assert_false(manager_policy_settings_equal(&a, &b));
    b.dns = NULL;
    assert_false(manager_policy_settings_equal(&a, &b));
}

/* Only what can prove it, in the administrator's order. */
static void test_challenges(void **state)
{
    apr_array_header_t *all = challenges("http-01", "dns-01");
    manager_policy_settings_t settings = { .challenges = all };
    manager_policy_name_t name = { .name = "www.example.org", .settings = &settings };
    const challenge_kind_t *kinds[MANAGER_POLICY_CHALLENGES_MAX];

    (void)state;
    APR_ARRAY_PUSH(all, const challenge_kind_t *) = challenge_find("tls-alpn-01");
    assert_int_equal(manager_policy_challenges(&name, kinds, MANAGER_POLICY_CHALLENGES_MAX), 3);
    assert_string_equal(kinds[0]->type, "http-01");
    assert_string_equal(kinds[1]->type, "dns-01");
    assert_true(manager_policy_uses_dns(&name));
    assert_int_equal(manager_policy_challenges(&name, kinds, 2), 2);
    name.name = "*.example.org";
    assert_int_equal(manager_policy_challenges(&name, kinds, MANAGER_POLICY_CHALLENGES_MAX), 1);
    assert_string_equal(kinds[0]->type, "dns-01");
    assert_true(manager_policy_uses_dns(&name));
    name.name = "2001:db8::1";
    assert_int_equal(manager_policy_challenges(&name, kinds, MANAGER_POLICY_CHALLENGES_MAX), 2);
    assert_string_equal(kinds[0]->type, "http-01");
    assert_string_equal(kinds[1]->type, "tls-alpn-01");
    assert_false(manager_policy_uses_dns(&name));
}

static void test_find_wildcard(void **state)
{
    manager_policy_settings_t settings = { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
    manager_policy_t *policy = manager_policy_create(pool);

    (void)state;
    manager_policy_add(policy, "a.example.org", &settings, 0);
    assert_null(manager_policy_find_wildcard(policy, "b.example.org"));
    manager_policy_add(policy, "*.example.org", &settings, 0);
    assert_string_equal(manager_policy_find_wildcard(policy, "b.example.org")->name, "*.example.org");
    assert_string_equal(manager_policy_find_wildcard(policy, "a.example.org")->name, "*.example.org");
    assert_null(manager_policy_find_wildcard(policy, "example.org"));
    assert_null(manager_policy_find_wildcard(policy, "c.b.example.org"));
    assert_null(manager_policy_find_wildcard(policy, "*.example.org"));
    assert_null(manager_policy_find(policy, "b.example.org"));
}

static apr_array_header_t *ca_list(const manager_ca_config_t *first, const manager_ca_config_t *second)
{
    apr_array_header_t *list = apr_array_make(pool, 2, sizeof(const manager_ca_config_t *));

    APR_ARRAY_PUSH(list, const manager_ca_config_t *) = first;
    if (second) {
        APR_ARRAY_PUSH(list, const manager_ca_config_t *) = second;
    }
    return list;
}

static void test_fingerprint_of_settings(void **state)
{
    const manager_policy_settings_t plain = { .challenges = challenges("http-01", "tls-alpn-01"),
                                              .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
    const manager_ca_config_t ca = { .acme = { .id = "x", .directory_url = "https://ca.example/dir" } };
    const apr_array_header_t *cas = ca_list(&ca, NULL);
    const apr_uint64_t expected = manager_policy_fingerprint(&plain, cas);
    manager_policy_settings_t other[9];
    apr_uint64_t found[9];

    (void)state;
    for (int i = 0; i < 9; i++) {
        other[i] = plain;
    }
    assert_true(expected != 0);
    /* the same over restarts and machines: it is kept in the cache */
    assert_true(expected == 0xb625bad0a9ee4d44ULL);
    other[0].challenges = challenges("http-01", "tls-alpn-01");
    other[0].extensions = apr_array_make(pool, 1, sizeof(crypto_csr_extension_t));
    other[0].key_types[1] = CRYPTO_KEY_RSA2048;     /* of no effect */
    other[0].renewal.percent = 90;
    other[0].retire = DAY;
    assert_true(manager_policy_fingerprint(&other[0], ca_list(&ca, NULL)) == expected);

    other[0].kinds = 2;
    other[1].challenges = challenges("tls-alpn-01", "http-01");
    other[2].challenges = challenges("http-01", NULL);
    other[3].challenges = NULL;
    other[4].key_types[0] = CRYPTO_KEY_P384;
    other[5].extensions = extensions("1.2.3", 0, "abc");
    other[6].extensions = extensions("1.2.3", 1, "abc");
    other[7].extensions = extensions("1.2.4", 0, "abc");
    other[8].extensions = extensions("1.2.3", 0, "abd");
    for (int i = 0; i < 9; i++) {
        found[i] = manager_policy_fingerprint(&other[i], cas);
        assert_true(found[i] != expected);
        for (int k = 0; k < i; k++) {
            assert_true(found[i] != found[k]);
        }
    }
}

static void test_fingerprint_of_cas(void **state)
{
    const manager_policy_settings_t settings = { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
    const manager_ca_config_t ca = { .acme = { .id = "x", .directory_url = "https://ca.example/dir" } };
    manager_ca_config_t other[8];
    apr_uint64_t found[11];

    (void)state;
    for (int i = 0; i < 8; i++) {
        other[i] = ca;
    }
    /* what is none of the name's business */
    other[0].acme.name = "other";
    other[0].acme.email = "a@ca.example";
    other[0].rate.orders = 7;
    assert_true(manager_policy_fingerprint(&settings, ca_list(&other[0], NULL))
                == manager_policy_fingerprint(&settings, ca_list(&ca, NULL)));

    other[0].acme.directory_url = "https://ca.example/dir2";
    other[1].acme.profile = "shortlived";
    other[2].acme.profile = "";
    other[3].acme.eab_kid = "shortlived";
    other[4].acme.eab_key = "shortlived";
    other[5].acme.account_pem = "some";
    other[6].acme.eab_kid = "some";
    other[6].acme.eab_key = "key";
    other[7].acme.eab_kid = "somek";
    other[7].acme.eab_key = "ey";
    for (int i = 0; i < 8; i++) {
        found[i] = manager_policy_fingerprint(&settings, ca_list(&other[i], NULL));
    }
    found[8] = manager_policy_fingerprint(&settings, ca_list(&ca, NULL));
    found[9] = manager_policy_fingerprint(&settings, ca_list(&ca, &other[0]));
    found[10] = manager_policy_fingerprint(&settings, ca_list(&other[0], &ca));
    for (int i = 0; i < 11; i++) {
        for (int k = 0; k < i; k++) {
            assert_true(found[i] != found[k]);
        }
    }
    /* what the account key is, is the account's business */
    other[6] = other[5];
    other[6].acme.account_pem = "other";
    assert_true(manager_policy_fingerprint(&settings, ca_list(&other[6], NULL)) == found[5]);
}

/* How long after its begin a certificate is renewed. */
static apr_interval_time_t renew_after(const char *name, manager_policy_renewal_t renewal,
                                       apr_interval_time_t lifetime)
{
    manager_policy_settings_t settings = { .renewal = renewal };
    manager_policy_name_t entry = { .name = name, .settings = &settings };

    return manager_policy_renew_at(&entry, START, START + lifetime) - START;
}

static const char *numbered(int i)
{
    return apr_psprintf(pool, "n%d.example", i);
}

/* lifetime, setting, the latest moment; the earliest is 1 % of the lifetime before it */
static const struct {
    apr_interval_time_t lifetime;
    manager_policy_renewal_t renewal;
    apr_interval_time_t latest;
    apr_interval_time_t go_before;  /* Go's RenewBefore that means the same, 0 the default */
} cases[] = {
    { HOUR, { 0, 0 }, 30 * MINUTE, 0 },
    { 6 * DAY, { 0, 0 }, 3 * DAY, 0 },
    { 90 * DAY, { 0, 0 }, 60 * DAY, 0 },
    { 45 * DAY, { 0, 0 }, 30 * DAY, 0 },
    { 47 * DAY, { 0, 0 }, 47 * DAY - 47 * DAY / 3, 0 },
    { 64 * DAY, { 0, 0 }, 64 * DAY - 64 * DAY / 3, 0 },
    { 398 * DAY, { 0, 0 }, 368 * DAY, 0 },
    { 90 * DAY, { 7 * DAY, 0 }, 83 * DAY, 7 * DAY },
    { 20 * DAY, { 7 * DAY, 0 }, 13 * DAY, 7 * DAY },
    { 90 * DAY, { 0, 40 }, 54 * DAY, 0 },
    { 90 * DAY, { 7 * DAY, 40 }, 83 * DAY, 7 * DAY }
};

static void test_renew_at(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int n = 0; n < NAMES; n++) {
            apr_interval_time_t after = renew_after(numbered(n), cases[i].renewal,
                                                    cases[i].lifetime);

            assert_true(after <= cases[i].latest - cases[i].lifetime / 1000);
            assert_true(after >= cases[i].latest - cases[i].lifetime / 100);
        }
    }
}

/* Go's autocert on the same directory begins at NotAfter - T at the earliest, T being its
 * RenewBefore or a third of the lifetime, at most 30 days: we are there before it. */
static void test_renew_at_is_before_go(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        apr_interval_time_t t = cases[i].go_before ? cases[i].go_before : cases[i].lifetime / 3;

        t = t < 30 * DAY ? t : 30 * DAY;
        for (int n = 0; n < NAMES; n++) {
            assert_true(renew_after(numbered(n), cases[i].renewal, cases[i].lifetime)
                        < cases[i].lifetime - t);
        }
    }
    for (apr_interval_time_t lifetime = HOUR; lifetime < 1000 * DAY; lifetime += 7 * HOUR + 1) {
        apr_interval_time_t t = lifetime / 3 < 30 * DAY ? lifetime / 3 : 30 * DAY;
        manager_policy_renewal_t none = { 0, 0 };

        assert_true(renew_after("a.example", none, lifetime) < lifetime - t);
    }
}

/* Until November 2025 it began 30 days before the end, or up to an hour earlier, whatever the lifetime. For
 * less than 90 days that is before the last third, and out of the CA's window: it may come first there. */
static void test_renew_at_is_before_an_old_go(void **state)
{
    static const apr_interval_time_t lifetimes[] = { 90 * DAY - SECOND, 90 * DAY, 100 * DAY, 398 * DAY };
    manager_policy_renewal_t none = { 0, 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
        for (int n = 0; n < NAMES; n++) {
            assert_true(renew_after(numbered(n), none, lifetimes[i]) < lifetimes[i] - 30 * DAY - 2 * HOUR);
        }
    }
}

/* Let's Encrypt's window (boulder, RenewalInfoSimple()): only an order within it is free of limits. */
static void test_renew_at_is_in_the_window(void **state)
{
    static const apr_interval_time_t lifetimes[] = { 160 * HOUR, 45 * DAY, 64 * DAY, 90 * DAY };
    manager_policy_renewal_t none = { 0, 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
        apr_interval_time_t validity = lifetimes[i];
        apr_interval_time_t ideal = validity - SECOND - (validity < 10 * DAY ? validity / 2 : validity / 3);

        for (int n = 0; n < NAMES; n++) {
            apr_interval_time_t after = renew_after(numbered(n), none, validity - SECOND);

            assert_true(after >= ideal - validity / 100);
            assert_true(after < ideal + validity / 100);
        }
    }
}

static void test_renew_at_never_within_the_first_tenth(void **state)
{
    static const manager_policy_renewal_t greedy[] = {
        { 400 * DAY, 0 }, { 90 * DAY, 0 }, { 85 * DAY, 0 }, { 0, 100 }, { 0, 95 }, { 0, 1000 }
    };
    apr_interval_time_t lowest = 90 * DAY, highest = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(greedy) / sizeof(greedy[0]); i++) {
        for (int n = 0; n < NAMES; n++) {
            apr_interval_time_t after = renew_after(numbered(n), greedy[i], 90 * DAY);

            assert_true(after >= 9 * DAY);
            assert_true(after <= 9 * DAY + 90 * DAY / 100);
            lowest = after < lowest ? after : lowest;
            highest = after > highest ? after : highest;
        }
    }
    /* these names do not come all at once either */
    assert_true(highest - lowest > 19 * HOUR);
}

static void test_renew_at_spreads_names(void **state)
{
    manager_policy_renewal_t none = { 0, 0 };
    apr_interval_time_t lowest = 90 * DAY, highest = 0;

    (void)state;
    for (int n = 0; n < NAMES; n++) {
        apr_interval_time_t after = renew_after(numbered(n), none, 90 * DAY);

        assert_int_equal(after, renew_after(numbered(n), none, 90 * DAY));
        lowest = after < lowest ? after : lowest;
        highest = after > highest ? after : highest;
    }
    assert_true(highest - lowest > 19 * HOUR);
}

static void test_renew_at_odd_times(void **state)
{
    manager_policy_settings_t settings = { .renewal = { 0, 99 } };
    manager_policy_name_t entry = { .name = "a.example", .settings = &settings };
    const apr_time_t far = apr_time_from_sec(253402300799LL);    /* the end of the year 9999 */
    apr_time_t at;

    (void)state;
    assert_int_equal(manager_policy_renew_at(&entry, START, START), START);
    assert_int_equal(manager_policy_renew_at(&entry, START, START - DAY), START);
    at = manager_policy_renew_at(&entry, START, far);
    assert_true(at > START && at < far);
}

/* --- names that no line lists --- */

static manager_policy_verdict_t judge_suffix(void *baton, const char *name)
{
    size_t len = strlen(name), suffix = strlen(baton);

    return len > suffix && strcmp(name + len - suffix, baton) == 0 ? MANAGER_POLICY_YES : MANAGER_POLICY_NO;
}

static manager_policy_verdict_t judge_never(void *baton, const char *name)
{
    (void)baton;
    (void)name;
    return MANAGER_POLICY_NEVER;
}

static const manager_ask_endpoint_t endpoint = { .url = "http://127.0.0.1:1/ask", .timeout = 1000000 };

/* A vhost with rules: "ask", "never", or a suffix. */
static manager_policy_vhost_t *make_vhost(apr_uint32_t id, const manager_policy_settings_t *settings,
                                          const char *const words[])
{
    manager_policy_vhost_t *vhost = apr_pcalloc(pool, sizeof(*vhost));
    apr_array_header_t *rules = apr_array_make(pool, 2, sizeof(manager_policy_rule_t));

    for (int i = 0; words[i]; i++) {
        manager_policy_rule_t *rule = apr_array_push(rules);

        memset(rule, 0, sizeof(*rule));
        if (strcmp(words[i], "ask") == 0) {
            rule->ask = &endpoint;
            continue;
        }
        rule->judge = strcmp(words[i], "never") == 0 ? judge_never : judge_suffix;
        rule->baton = apr_pstrdup(pool, words[i]);
    }
    vhost->id = id;
    vhost->settings = settings;
    vhost->rules = rules;
    return vhost;
}

static const manager_policy_settings_t both_kinds = { .key_types = { CRYPTO_KEY_P256, CRYPTO_KEY_RSA2048 },
                                                      .kinds = 2 };
static const manager_policy_settings_t only_rsa = { .key_types = { CRYPTO_KEY_RSA2048 }, .kinds = 1 };

static void test_judge(void **state)
{
    manager_policy_vhost_t *vhost = make_vhost(1, &both_kinds, (const char *const[]){ ".one.example",
                                               ".two.example", NULL });

    (void)state;
    assert_int_equal(manager_policy_judge(vhost, "a.one.example"), MANAGER_POLICY_YES);
    assert_int_equal(manager_policy_judge(vhost, "a.two.example"), MANAGER_POLICY_YES);
    assert_int_equal(manager_policy_judge(vhost, "a.three.example"), MANAGER_POLICY_NO);
    /* made up names are not even asked about */
    assert_int_equal(manager_policy_judge(vhost, "www.www.one.example"), MANAGER_POLICY_NO);
    assert_int_equal(manager_policy_judge(vhost, "api.dev.mail.one.example"), MANAGER_POLICY_NO);
    vhost = make_vhost(1, &both_kinds, (const char *const[]){ "", NULL });
    assert_int_equal(manager_policy_judge(vhost, "a.local"), MANAGER_POLICY_YES);
    vhost->public_ca = 1;
    assert_int_equal(manager_policy_judge(vhost, "a.local"), MANAGER_POLICY_NO);
    assert_int_equal(manager_policy_judge(vhost, "a.example"), MANAGER_POLICY_YES);
}

static void test_judge_with_an_endpoint(void **state)
{
    manager_policy_vhost_t *vhost = make_vhost(1, &both_kinds, (const char *const[]){ "ask", ".one.example",
                                               NULL });

    (void)state;
    assert_int_equal(manager_policy_judge(vhost, "a.one.example"), MANAGER_POLICY_YES);
    assert_int_equal(manager_policy_judge(vhost, "a.two.example"), MANAGER_POLICY_ASK);
    assert_int_equal(manager_policy_judge(vhost, "www.www.two.example"), MANAGER_POLICY_NO);
    /* a rule that says never ends the questions, not the endpoint before it */
    vhost = make_vhost(1, &both_kinds, (const char *const[]){ "never", "ask", ".one.example", NULL });
    assert_int_equal(manager_policy_judge(vhost, "a.one.example"), MANAGER_POLICY_NO);
    vhost = make_vhost(1, &both_kinds, (const char *const[]){ "ask", "never", ".one.example", NULL });
    assert_int_equal(manager_policy_judge(vhost, "a.one.example"), MANAGER_POLICY_ASK);
}

static void test_vhosts(void **state)
{
    manager_policy_t *policy = manager_policy_create(pool);
    manager_policy_vhost_t *one = make_vhost(7, &both_kinds, (const char *const[]){ "ask", NULL });
    manager_policy_vhost_t *two = make_vhost(8, &only_rsa, (const char *const[]){ ".two.example", NULL });
    manager_policy_name_t found;

    (void)state;
    manager_policy_add(policy, "listed.example", &both_kinds, 0);
    manager_policy_add_vhost(policy, one);
    manager_policy_add_vhost(policy, two);
    assert_int_equal(manager_policy_vhosts(policy)->nelts, 2);
    assert_ptr_equal(manager_policy_find_vhost(policy, 8), two);
    assert_null(manager_policy_find_vhost(policy, 9));

    /* what the cache holds: a listed name by its kinds */
    assert_true(manager_policy_adopt(policy, "listed.example", 0, &found));
    assert_int_equal(found.kind, 0);
    assert_false(manager_policy_is_on_demand(&found));
    assert_true(manager_policy_adopt(policy, "listed.example", 1, &found));
    assert_int_equal(found.kind, 1);
    assert_int_equal(manager_policy_key_type(&found), CRYPTO_KEY_RSA2048);
    assert_true(manager_policy_is_on_demand(&found));

    /* the vhost that allows it comes before the one that would have to ask, if it has that kind of key */
    assert_true(manager_policy_adopt(policy, "a.two.example", 1, &found));
    assert_ptr_equal(found.vhost, two);
    assert_int_equal(found.kind, 0);
    assert_true(manager_policy_adopt(policy, "a.two.example", 0, &found));
    assert_ptr_equal(found.vhost, one);
    assert_true(manager_policy_is_on_demand(&found));
    assert_false(manager_policy_adopt(policy, "www.www.two.example", 1, &found));
    /* what stands for many names, or for none, is listed or nobody's */
    assert_false(manager_policy_adopt(policy, "*.two.example", 1, &found));
    assert_int_equal(manager_policy_judge(two, "*.two.example"), MANAGER_POLICY_NO);
    assert_int_equal(manager_policy_judge(one, "192.0.2.1"), MANAGER_POLICY_NO);
}

/* Each key stands for one name, and the other way round. */
static void test_cache_keys_of_all_kinds(void **state)
{
    static const struct {
        const char *name, *ec, *rsa;
    } rows[] = {
        { "www.example.org", "www.example.org", "www.example.org+rsa" },
        { "*.example.org", "example.org+wildcard", "example.org+wildcard+rsa" },
        { "192.0.2.1", "192.0.2.1", "192.0.2.1+rsa" },
        { "2001:db8::1", "ip6-2001-db8--1", "ip6-2001-db8--1+rsa" },
    };
    manager_policy_settings_t ec = { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
    manager_policy_settings_t rsa = { .key_types = { CRYPTO_KEY_RSA2048 }, .kinds = 1 };
    char key[MANAGER_POLICY_CACHE_KEY_SIZE], found[BASE_HOSTNAME_SIZE];
    int is_rsa;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        manager_policy_name_t name = { .name = rows[i].name, .settings = &ec };

        assert_string_equal(manager_policy_cache_key(&name, key), rows[i].ec);
        assert_true(manager_policy_parse_cache_key(key, found, &is_rsa));
        assert_string_equal(found, rows[i].name);
        assert_false(is_rsa);
        name.settings = &rsa;
        assert_string_equal(manager_policy_cache_key(&name, key), rows[i].rsa);
        assert_true(manager_policy_parse_cache_key(key, found, &is_rsa));
        assert_string_equal(found, rows[i].name);
        assert_true(is_rsa);
    }
}

static void test_cache_keys(void **state)
{
    static const char *const wrong[] = { "+rsa", "+wildcard", "a.example+wildcard+token", "a.example+token",
                                         "a.example+", "a.example+rsa+rsa", "A.example",
                                         "a.example.", "example", "acme_account+key", "tOkEn+http-01", "" };
    char name[BASE_HOSTNAME_SIZE];
    int rsa;

    (void)state;
    assert_true(manager_policy_parse_cache_key("a.example", name, &rsa));
    assert_string_equal(name, "a.example");
    assert_false(rsa);
    assert_true(manager_policy_parse_cache_key("a.example+rsa", name, &rsa));
    assert_string_equal(name, "a.example");
    assert_true(rsa);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(manager_policy_parse_cache_key(wrong[i], name, &rsa));
    }
}

static apr_time_t start_of_time(void)
{
    return START;
}

static void test_confirm(void **state)
{
    manager_policy_vhost_t *vhost = make_vhost(1, &both_kinds, (const char *const[]){ ".one.example", "ask",
                                               NULL });
    apr_array_header_t *endpoints = apr_array_make(pool, 1, sizeof(const manager_ask_endpoint_t *));
    manager_policy_name_t name = { .name = "a.one.example", .settings = &both_kinds, .vhost = vhost };
    manager_ask_t *ask = NULL;
    apr_time_t until = 0;
    base_error_t err;

    (void)state;
    acme_http_init();
    APR_ARRAY_PUSH(endpoints, const manager_ask_endpoint_t *) = &endpoint;
    assert_int_equal(manager_ask_create(&ask, endpoints, NULL, start_of_time, pool), APR_SUCCESS);
    assert_int_equal(manager_policy_confirm(&name, ask, "", START, &until, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_NONE);
    /* nobody listens there: it fails closed, and not for long */
    name.name = "a.two.example";
    assert_int_not_equal(manager_policy_confirm(&name, ask, "", START, &until, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_REFUSED);
    assert_true(until > START && until <= START + MANAGER_ASK_TROUBLE_KEPT);
    /* a listed name needs nobody's word */
    name.vhost = NULL;
    assert_int_equal(manager_policy_confirm(&name, ask, "", START, &until, pool, &err), APR_SUCCESS);
    /* no rule allows it */
    name.vhost = make_vhost(1, &both_kinds, (const char *const[]){ ".one.example", NULL });
    assert_int_not_equal(manager_policy_confirm(&name, ask, "", START, &until, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_REFUSED);
    assert_int_equal(until, START + MANAGER_ASK_NO_KEPT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_names),
        TEST(test_settings_equal),
        TEST(test_settings_equal_dns),
        TEST(test_challenges),
        TEST(test_find_wildcard),
        TEST(test_fingerprint_of_settings),
        TEST(test_fingerprint_of_cas),
        TEST(test_renew_at),
        TEST(test_renew_at_is_before_go),
        TEST(test_renew_at_is_before_an_old_go),
        TEST(test_renew_at_is_in_the_window),
        TEST(test_renew_at_never_within_the_first_tenth),
        TEST(test_renew_at_spreads_names),
        TEST(test_renew_at_odd_times),
        TEST(test_judge),
        TEST(test_judge_with_an_endpoint),
        TEST(test_vhosts),
        TEST(test_cache_keys),
        TEST(test_cache_keys_of_all_kinds),
        TEST(test_confirm)
    };

    return RUN_TESTS(tests);
}
