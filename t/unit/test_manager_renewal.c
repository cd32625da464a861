/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "crypto/cert.h"
#include "manager/renewal.h"
#include "test_acme_script.h"

#define NOW apr_time_from_sec(1700000000)
#define SECOND apr_time_from_sec(1)
#define MINUTE apr_time_from_sec(60)
#define HOUR apr_time_from_sec(3600)
#define DAY (24 * HOUR)
#define NAMES 3000
#define ORDER_TIME (5 * SECOND)     /* how long an issuance takes */

/* 6 d of Let's Encrypt are 160 h; also the ones that are planned and the longest that there ever were. */
static const apr_interval_time_t lifetimes[] = { 160 * HOUR, 45 * DAY, 64 * DAY, 90 * DAY, 398 * DAY };

#define LIFETIMES (sizeof(lifetimes) / sizeof(lifetimes[0]))

static EVP_PKEY *key;
static const manager_policy_settings_t plain = { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 };
static const manager_policy_name_t a_name = { .name = "a.example", .settings = &plain };
static const manager_ca_config_t a_ca = { .acme = { .id = "first",
                                                    .directory_url = "https://ca.example/dir" } };

/* A certificate; with an authority key identifier unless told otherwise. */
static crypto_bundle_t *make_bundle(apr_time_t not_before, apr_time_t not_after, int identified)
{
    crypto_cert_params_t params = { .key = key, .cn = "a.example", .not_before = not_before,
                                    .not_after = not_after };
    X509 *cert = crypto_cert_new(&params);
    crypto_bundle_t *bundle = NULL;

    assert_non_null(cert);
    if (identified) {
        AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();

        id->keyid = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(id->keyid, (const unsigned char *)"0123456789", 10);
        assert_int_equal(X509_add1_ext_i2d(cert, NID_authority_key_identifier, id, 0, 0), 1);
        AUTHORITY_KEYID_free(id);
    }
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(crypto_bundle_make(&bundle, key, cert, NULL, NULL), APR_SUCCESS);
    return bundle;
}

/* It was issued just now. */
static void note_issuance(manager_ledger_t *ledger, const crypto_bundle_t *bundle,
                          apr_interval_time_t lifetime_before, apr_time_t now)
{
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];
    manager_ledger_success_t success = { .certificate = crypto_bundle_fingerprint(bundle, fingerprint),
                                         .ca = &a_ca, .lifetime = lifetime_before, .now = now };

    manager_ledger_succeed(ledger, &success);
}

static void set_window(manager_ledger_t *ledger, apr_time_t chosen)
{
    ledger->window_start = chosen - HOUR;
    ledger->window_end = chosen + HOUR;
    ledger->window_chosen = chosen;
    ledger->info_next = chosen;
}

static manager_renewal_plan_t plan_of(const manager_policy_name_t *name, const crypto_bundle_t *bundle,
                                      const manager_ledger_t *ledger, int asks, apr_time_t now)
{
    manager_renewal_plan_t plan;

    memset(&plan, 0x55, sizeof(plan));
    manager_renewal_plan(&plan, name, bundle, ledger, asks, now);
    return plan;
}

/* --- the plan --- */

static void test_without_a_ledger(void **state)
{
    manager_ledger_t ledger = { 0 };
    crypto_bundle_t *bundle = make_bundle(NOW, NOW + 90 * DAY, 1);
    apr_time_t due = manager_policy_renew_at(&a_name, NOW, NOW + 90 * DAY);
    manager_renewal_plan_t plan = plan_of(&a_name, bundle, &ledger, 0, NOW + DAY);

    (void)state;
    assert_int_equal(plan.due, due);
    assert_int_equal(plan.ask, 0);
    assert_false(plan.by_window);
    plan = plan_of(&a_name, bundle, &ledger, 1, NOW + DAY);
    assert_int_equal(plan.due, due);
    assert_int_equal(plan.ask, NOW + DAY);
    assert_false(plan.by_window);
    /* what the ledger says of no certificate is not said of this one */
    set_window(&ledger, NOW + 10 * DAY);
    plan = plan_of(&a_name, bundle, &ledger, 1, NOW + DAY);
    assert_int_equal(plan.due, due);
    crypto_bundle_free(bundle);
}

static void test_the_earlier_of_both(void **state)
{
    crypto_bundle_t *bundle = make_bundle(NOW, NOW + 90 * DAY, 1);
    apr_time_t due = manager_policy_renew_at(&a_name, NOW, NOW + 90 * DAY);
    manager_ledger_t ledger = { 0 };
    manager_renewal_plan_t plan;

    (void)state;
    note_issuance(&ledger, bundle, 0, NOW);
    set_window(&ledger, NOW + 40 * DAY);
    plan = plan_of(&a_name, bundle, &ledger, 1, NOW + DAY);
    assert_int_equal(plan.due, NOW + 40 * DAY);
    assert_true(plan.by_window);
    set_window(&ledger, NOW + 80 * DAY);
    plan = plan_of(&a_name, bundle, &ledger, 1, NOW + DAY);
    assert_int_equal(plan.due, due);
    assert_false(plan.by_window);
    /* renewal information is not wanted any more */
    set_window(&ledger, NOW + 40 * DAY);
    plan = plan_of(&a_name, bundle, &ledger, 0, NOW + DAY);
    assert_int_equal(plan.due, due);
    assert_false(plan.by_window);
    assert_int_equal(plan.ask, 0);
    crypto_bundle_free(bundle);
}

static void test_another_certificate(void **state)
{
    crypto_bundle_t *bundle = make_bundle(NOW, NOW + 90 * DAY, 1);
    crypto_bundle_t *other = make_bundle(NOW, NOW + 90 * DAY, 1);
    manager_ledger_t ledger = { 0 };
    manager_renewal_plan_t plan;

    (void)state;
    note_issuance(&ledger, bundle, 0, NOW);
    set_window(&ledger, NOW + HOUR);
    ledger.info_next = NOW + 5 * HOUR;
    plan = plan_of(&a_name, bundle, &ledger, 1, NOW + 2 * HOUR);
    assert_int_equal(plan.due, NOW + HOUR);
    assert_int_equal(plan.ask, NOW + 5 * HOUR);
    plan = plan_of(&a_name, other, &ledger, 1, NOW + 2 * HOUR);
    assert_int_equal(plan.due, manager_policy_renew_at(&a_name, NOW, NOW + 90 * DAY));
    assert_int_equal(plan.ask, NOW + 2 * HOUR);
    crypto_bundle_free(bundle);
    crypto_bundle_free(other);
}

/* Every name, with the window that Let's Encrypt gives: before Go's program on the same directory would. */
static void test_before_go(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIFETIMES; i++) {
        apr_interval_time_t lifetime = lifetimes[i];
        crypto_bundle_t *bundle = make_bundle(NOW - HOUR, NOW - HOUR + lifetime, 1);
        apr_interval_time_t left = lifetime < 10 * DAY ? lifetime / 2 : lifetime / 3;
        apr_interval_time_t go = lifetime / 3 < 30 * DAY ? lifetime / 3 : 30 * DAY;
        acme_renewal_info_t info = { .start = bundle->not_after - left - lifetime / 100,
                                     .end = bundle->not_after - left + lifetime / 100 };
        int by_window = 0;

        for (int n = 0; n < NAMES; n++) {
            char text[32];
            manager_policy_name_t name = { .name = text, .settings = &plain };
            manager_ledger_t ledger = { 0 };
            manager_renewal_plan_t plan;

            snprintf(text, sizeof(text), "n%d.example", n);
            note_issuance(&ledger, bundle, 0, NOW);
            manager_renewal_note_window(&ledger, &info, NOW, (apr_uint32_t)n * 2654435761U);
            plan = plan_of(&name, bundle, &ledger, 1, NOW);
            assert_true(plan.due < bundle->not_after - go);
            assert_true(plan.due <= ledger.window_chosen);
            assert_true(plan.due >= info.start);
            by_window += plan.by_window;
        }
        /* some by this, some by that; the window of a third is far ahead of 30 days of 398 */
        assert_true(by_window > 0);
        assert_true((by_window < NAMES) == (lifetime < 398 * DAY));
        crypto_bundle_free(bundle);
    }
}

/* An incident: the CA wants it replaced, and has wanted so for a while. */
static void test_a_window_of_the_past(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIFETIMES; i++) {
        crypto_bundle_t *bundle = make_bundle(NOW - HOUR, NOW - HOUR + lifetimes[i], 1);
        manager_ledger_t ledger = { 0 };
        manager_renewal_plan_t plan;

        note_issuance(&ledger, bundle, 0, NOW);
        set_window(&ledger, NOW - 2 * HOUR);
        /* at once, when it has been in service for a while */
        plan = plan_of(&a_name, bundle, &ledger, 1, NOW + 2 * HOUR);
        assert_true(plan.due <= NOW + 2 * HOUR);
        assert_true(plan.by_window);
        /* not when it is new: the next one would have the same window */
        for (int hasty = 0; hasty < 100; hasty++) {
            apr_interval_time_t age = HOUR;

            for (int k = 0; k < hasty && age < lifetimes[i] / 5; k++) {
                age *= 4;
            }
            age = age < lifetimes[i] / 5 ? age : lifetimes[i] / 5;
            ledger.hasty = hasty;
            plan = plan_of(&a_name, bundle, &ledger, 1, NOW);
            assert_int_equal(plan.due, NOW + age);
        }
        ledger.hasty = 1000000;
        plan = plan_of(&a_name, bundle, &ledger, 1, NOW);
        assert_int_equal(plan.due, NOW + lifetimes[i] / 5);
        /* when it was stored is not known: it is as old as it says */
        ledger.hasty = 0;
        ledger.issued = 0;
        assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW).due, NOW);
        /* so when it was stored in the future, but for clocks that differ a little */
        ledger.issued = NOW + 365 * DAY;
        assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW).due, NOW);
        ledger.issued = NOW + MINUTE;
        assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW).due, NOW + MINUTE + HOUR);
        crypto_bundle_free(bundle);
    }
}

static void test_when_to_ask(void **state)
{
    crypto_bundle_t *bundle = make_bundle(NOW, NOW + 90 * DAY, 1);
    manager_ledger_t ledger = { 0 };

    (void)state;
    note_issuance(&ledger, bundle, 0, NOW);
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW + 1).ask, NOW + 1);
    ledger.info_next = NOW + 6 * HOUR;
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW + 1).ask, NOW + 6 * HOUR);
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW + DAY).ask, NOW + 6 * HOUR);
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 0, NOW + DAY).ask, 0);
    /* noted by a clock that was wrong */
    ledger.info_next = NOW + 30 * DAY;
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW).ask, NOW);
    /* not about a certificate that has ended, or will have */
    ledger.info_next = NOW + 90 * DAY;
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW + 90 * DAY - HOUR).ask, 0);
    ledger.info_next = NOW + 80 * DAY;
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW + 90 * DAY - HOUR).ask, NOW + 80 * DAY);
    assert_int_equal(plan_of(&a_name, bundle, &ledger, 1, NOW + 90 * DAY).ask, 0);
    crypto_bundle_free(bundle);
}

/* A certificate that came minutes ago is good, even if its dates and the settings say that it is due. */
static void test_back_dated(void **state)
{
    const manager_policy_settings_t greedy = { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1,
                                               .renewal = { 0, 90 } };
    const manager_policy_name_t name = { .name = "a.example", .settings = &greedy };
    crypto_bundle_t *bundle = make_bundle(NOW - MINUTE, NOW + 4 * MINUTE, 1);
    manager_ledger_t ledger = { 0 };

    (void)state;
    assert_true(plan_of(&name, bundle, &ledger, 0, NOW).due < NOW);
    note_issuance(&ledger, bundle, 0, NOW);
    assert_int_equal(plan_of(&name, bundle, &ledger, 0, NOW).due, NOW + 30 * SECOND);
    /* one that ends before it is so old is due by its dates */
    ledger.issued = NOW + 3 * MINUTE + 45 * SECOND;
    assert_true(plan_of(&name, bundle, &ledger, 0, ledger.issued).due < NOW);
    crypto_bundle_free(bundle);
}

/* --- windows --- */

static void test_note_window(void **state)
{
    acme_renewal_info_t info = { .start = NOW + DAY, .end = NOW + 2 * DAY };
    manager_ledger_t ledger = { 0 };
    apr_time_t chosen;

    (void)state;
    ledger.info_failures = 3;
    assert_true(manager_renewal_note_window(&ledger, &info, NOW, 0x80000000));
    assert_int_equal(ledger.window_start, info.start);
    assert_int_equal(ledger.window_end, info.end);
    assert_int_equal(ledger.info_failures, 0);
    chosen = ledger.window_chosen;
    assert_int_equal(chosen, NOW + DAY + DAY / 2);
    /* once for each window */
    assert_false(manager_renewal_note_window(&ledger, &info, NOW + HOUR, 0x10000000));
    assert_int_equal(ledger.window_chosen, chosen);
    info.end += SECOND;
    assert_true(manager_renewal_note_window(&ledger, &info, NOW + HOUR, 0x10000000));
    assert_true(ledger.window_chosen < chosen);
    info.start -= SECOND;
    assert_true(manager_renewal_note_window(&ledger, &info, NOW + HOUR, 0xffffffff));
    assert_true(ledger.window_chosen > chosen);
}

static void test_the_instant_is_uniform(void **state)
{
    static const apr_interval_time_t widths[] = { SECOND, 2 * SECOND, 17 * HOUR, 398 * DAY, 100000 * DAY };

    (void)state;
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        acme_renewal_info_t info = { .start = NOW, .end = NOW + widths[i] };
        int tenths[10] = { 0 };
        apr_uint32_t random = 0;

        for (int n = 0; n < 10000; n++, random += 2654435761U) {
            manager_ledger_t ledger = { 0 };

            manager_renewal_note_window(&ledger, &info, NOW, n == 0 ? 0xffffffff : random);
            assert_true(ledger.window_chosen >= info.start);
            assert_true(ledger.window_chosen < info.end);
            assert_int_equal(apr_time_usec(ledger.window_chosen), 0);
            tenths[(ledger.window_chosen - NOW) / (widths[i] / 10)]++;
        }
        for (int n = 0; n < 10 && widths[i] > HOUR; n++) {
            assert_true(tenths[n] > 900 && tenths[n] < 1100);
        }
    }
}

/* Records are in whole seconds: windows with fractions are the same ones after a restart. */
static void test_windows_with_fractions(void **state)
{
    static const acme_renewal_info_t infos[] = {
        { .start = NOW + 1, .end = NOW + 2 }, { .start = NOW, .end = NOW + 1 },
        { .start = NOW + 900000, .end = NOW + SECOND + 100000 },
        { .start = NOW + 999999, .end = NOW + DAY + 1 }
    };
    script_fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(infos) / sizeof(infos[0]); i++) {
        manager_ledger_t ledger = { 0 };
        apr_time_t chosen;

        assert_true(manager_renewal_note_window(&ledger, &infos[i], NOW, 0xc0000000));
        chosen = ledger.window_chosen;
        assert_true(chosen > infos[i].start - SECOND && chosen < infos[i].end);
        assert_int_equal(manager_ledger_store(&ledger, f->cache, "a.example", f->pool), APR_SUCCESS);
        manager_ledger_load(&ledger, f->cache, "a.example", f->pool);
        assert_int_equal(ledger.window_chosen, chosen);
        assert_false(manager_renewal_note_window(&ledger, &infos[i], NOW, 0));
        assert_int_equal(ledger.window_chosen, chosen);
    }
}

static void test_when_to_ask_again(void **state)
{
    static const struct {
        apr_interval_time_t retry, wait;
    } rows[] = {
        { 0, 6 * HOUR }, { SECOND, MINUTE }, { -HOUR, MINUTE }, { MINUTE, MINUTE }, { 5 * HOUR, 5 * HOUR },
        { DAY, DAY }, { DAY + SECOND, DAY }, { 3650 * DAY, DAY }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        acme_renewal_info_t info = { .start = NOW + DAY, .end = NOW + 2 * DAY,
                                     .retry_at = rows[i].retry ? NOW + rows[i].retry : 0 };
        apr_time_t least = NOW + 100 * DAY, most = 0;

        for (apr_uint32_t n = 0; n < 1000; n++) {
            manager_ledger_t ledger = { 0 };

            manager_renewal_note_window(&ledger, &info, NOW, n << 22);
            assert_true(ledger.info_next >= NOW + rows[i].wait);
            assert_true(ledger.info_next <= NOW + rows[i].wait + rows[i].wait / 20);
            least = ledger.info_next < least ? ledger.info_next : least;
            most = ledger.info_next > most ? ledger.info_next : most;
        }
        assert_true(most - least > rows[i].wait / 40);
    }
}

/* --- a long time with a CA --- */

typedef struct world_t {
    apr_interval_time_t lifetime;
    apr_interval_time_t back_dated;
    int windows;                    /* it has renewal information: windows of an hour */
    apr_interval_time_t begin;      /* of the window, from the certificate's issuance or from now */
    int rolling;                    /* from now */
    const manager_policy_settings_t *settings;
} world_t;

/* Obtain a certificate, and renew it as planned. @return how many there were until then */
static int live(const world_t *world, apr_interval_time_t duration)
{
    const manager_policy_name_t name = { .name = "a.example", .settings = world->settings };
    manager_ledger_t ledger = { 0 };
    crypto_bundle_t *bundle = NULL;
    apr_time_t now = NOW, issued = 0, next = NOW;
    apr_uint32_t random = 1;
    int count = 0;

    while (now < NOW + duration) {
        manager_renewal_plan_t plan;

        if (next <= now) {
            apr_interval_time_t before = bundle ? bundle->not_after - bundle->not_before : 0;

            crypto_bundle_free(bundle);
            now += ORDER_TIME;
            bundle = make_bundle(now - world->back_dated, now - world->back_dated + world->lifetime, 1);
            note_issuance(&ledger, bundle, before, now);
            issued = now;
            count++;
        }
        plan = plan_of(&name, bundle, &ledger, world->windows, now);
        if (plan.ask != 0 && plan.ask <= now) {
            acme_renewal_info_t info = { .start = (world->rolling ? now : issued) + world->begin };

            info.end = info.start + HOUR;
            manager_renewal_note_window(&ledger, &info, now, random *= 2654435761U);
            plan = plan_of(&name, bundle, &ledger, world->windows, now);
            assert_true(plan.ask == 0 || plan.ask > now);
        }
        next = plan.due;
        if (next > now) {
            now = plan.ask != 0 && plan.ask < next ? plan.ask : next;
        }
    }
    crypto_bundle_free(bundle);
    return count;
}

/* Fault 18: the window of each certificate is past, of new ones as well; a CA once had it so, and so has
 * whoever keeps its answers for too long. */
static void test_no_storm(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIFETIMES; i++) {
        for (int rolling = 0; rolling <= 1; rolling++) {
            world_t world = { .lifetime = lifetimes[i], .back_dated = HOUR, .windows = 1, .begin = -2 * HOUR,
                              .rolling = rolling, .settings = &plain };
            int day = live(&world, DAY), week = live(&world, 7 * DAY);

            /* the first one, then after 1, 4, 16, 64 hours, in the end after each fifth of the lifetime */
            assert_true(day >= 2 && day <= 4);
            assert_true(week <= (lifetimes[i] > 30 * DAY ? 5 : 9));
            assert_true(live(&world, 2 * lifetimes[i]) <= 7 + 10);
        }
    }
}

/* A CA that behaves: no more certificates than by the lifetime alone. */
static void test_calm(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIFETIMES; i++) {
        world_t world = { .lifetime = lifetimes[i], .back_dated = HOUR, .windows = 1,
                          .begin = lifetimes[i] / 2, .settings = &plain };

        assert_int_equal(live(&world, DAY), 1);
        assert_int_equal(live(&world, 3 * lifetimes[i] - DAY), 6);
        world.windows = 0;
        assert_int_equal(live(&world, DAY), 1);
    }
}

/* Caddy's certificates live for 5 minutes and begin a minute ago; the administrator wants the impossible. */
static void test_no_loop_with_certificates_of_minutes(void **state)
{
    static const manager_policy_settings_t settings[] = {
        { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1, .renewal = { 0, 90 } },
        { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1, .renewal = { 0, 100 } },
        { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1, .renewal = { 7 * DAY, 0 } },
        { .key_types = { CRYPTO_KEY_P256 }, .kinds = 1 }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        world_t world = { .lifetime = 5 * MINUTE, .back_dated = MINUTE, .settings = &settings[i] };

        /* no sooner than after a tenth of the lifetime */
        assert_true(live(&world, HOUR) <= HOUR / (30 * SECOND));
        assert_true(live(&world, HOUR) >= HOUR / (5 * MINUTE));
        world.windows = 1;
        world.begin = -2 * HOUR;
        assert_true(live(&world, HOUR) <= HOUR / (30 * SECOND));
        /* back-dated by an hour */
        world.lifetime = 2 * HOUR;
        world.back_dated = HOUR;
        assert_true(live(&world, DAY) <= DAY / (2 * HOUR / 10));
    }
}

/* --- asking --- */

#define BETWEEN(start, end) "\"suggestedWindow\":{\"start\":\"" start "\",\"end\":\"" end "\"}"
#define WINDOW BETWEEN("2027-01-15T08:00:00Z", "2027-01-16T08:00:00Z")
#define PAST BETWEEN("2020-01-15T08:00:00Z", "2020-01-16T08:00:00Z")
#define FAR BETWEEN("2038-01-15T08:00:00Z", "2038-01-16T08:00:00Z")

static char lines[16][BASE_LOG_LINE_MAX];
static int logged;

static void take_line(void *baton, int level, const char *line)
{
    (void)baton;
    if (strstr(line, "AC018") && logged < 16) {
        snprintf(lines[logged++], BASE_LOG_LINE_MAX, "%d %s", level, line);
    }
}

typedef struct fixture_t {
    script_fixture_t *script;
    crypto_bundle_t *bundle;
    const char *request;            /* for its renewal information */
    manager_ledger_t ledger;
    apr_time_t now;
} fixture_t;

static fixture_t fixture;

static int set_up(void **state)
{
    fixture_t *f = &fixture;

    memset(f, 0, sizeof(*f));
    f->script = script_set_up(state);
    *state = f;
    f->now = apr_time_from_sec(apr_time_sec(apr_time_now()));
    f->bundle = make_bundle(f->now, f->now + 90 * DAY, 1);
    f->request = apr_pstrcat(f->script->pool, "GET /ari/",
                             crypto_cert_renewal_id(f->bundle->leaf, f->script->pool), NULL);
    note_issuance(&f->ledger, f->bundle, 0, f->now);
    script_drop(f->script->script, "GET /dir");
    script_add(f->script->script, "GET /dir", 200, "", "{\"newNonce\":\"/nonce\",\"newAccount\":\"/account\","
               "\"newOrder\":\"/new\",\"renewalInfo\":\"$U/ari\"}");
    logged = 0;
    base_log_set(take_line, NULL);
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;
    void *script = f->script;

    base_log_set(NULL, NULL);
    crypto_bundle_free(f->bundle);
    return script_tear_down(&script);
}

static void answer(fixture_t *f, int status, const char *headers, const char *body)
{
    script_drop(f->script->script, f->request);
    script_add(f->script->script, f->request, status, headers, body);
}

/* Ask; how long until it is asked again. */
static apr_interval_time_t ask(fixture_t *f)
{
    logged = 0;
    manager_renewal_ask(&f->ledger, acme_account_client(f->script->account), &a_name, f->bundle, f->now, 0,
                        f->script->pool);
    return f->ledger.info_next - f->now;
}

static void test_ask(void **state)
{
    fixture_t *f = *state;
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];

    answer(f, 200, "Retry-After: 7200\r\n", "{" WINDOW "}");
    assert_true(ask(f) >= 2 * HOUR && f->ledger.info_next <= f->now + 2 * HOUR + 10 * MINUTE);
    assert_int_equal(f->ledger.window_start, apr_time_from_sec(1800000000));
    assert_int_equal(f->ledger.window_end, apr_time_from_sec(1800000000) + DAY);
    assert_int_equal(f->ledger.window_chosen, apr_time_from_sec(1800000000));
    assert_string_equal(f->ledger.certificate, crypto_bundle_fingerprint(f->bundle, fingerprint));
    assert_int_equal(f->ledger.issued, f->now);
    assert_string_equal(f->ledger.ca, "https://ca.example/dir");
    /* a first window is nothing to talk about, nor is the same one again */
    assert_int_equal(logged, 0);
    ask(f);
    assert_int_equal(logged, 0);
    assert_int_equal(script_seen(f->script->script, f->request), 2);
}

static void test_the_ca_moves_the_window(void **state)
{
    fixture_t *f = *state;

    answer(f, 200, "", "{" WINDOW "}");
    assert_true(ask(f) >= 6 * HOUR);
    answer(f, 200, "", "{" PAST ",\"explanationURL\":\"https://ca.example/incident\"}");
    ask(f);
    assert_int_equal(f->ledger.window_chosen, apr_time_from_sec(1579075200));
    assert_string_equal(f->ledger.explanation, "https://ca.example/incident");
    assert_int_equal(logged, 2);
    assert_string_equal(lines[0], "5 AC0180: autocert: a.example: CA scripted now wants it renewed between "
                        "2020-01-15 08:00 UTC and 2020-01-16 08:00 UTC; it is renewed soon");
    assert_string_equal(lines[1], "5 AC0181: autocert: a.example: CA scripted explains when it wants it "
                        "renewed: https://ca.example/incident; it is renewed by itself");
    /* once */
    ask(f);
    assert_int_equal(logged, 0);
    /* another text */
    answer(f, 200, "", "{" FAR ",\"explanationURL\":\"https://ca.example/incident-2\"}");
    ask(f);
    assert_int_equal(logged, 2);
    assert_non_null(strstr(lines[0], "it is renewed by 2038-01-15 08:00 UTC"));
    assert_non_null(strstr(lines[1], "https://ca.example/incident-2"));
    /* none any more */
    answer(f, 200, "", "{" FAR "}");
    ask(f);
    assert_int_equal(logged, 0);
    assert_string_equal(f->ledger.explanation, "");
}

static void test_a_ca_that_is_down(void **state)
{
    fixture_t *f = *state;
    apr_interval_time_t wait = MINUTE;

    set_window(&f->ledger, f->now + 30 * DAY);
    answer(f, 500, "", "<html>");
    for (int i = 1; i <= 20; i++, wait *= 2) {
        apr_interval_time_t found = ask(f);

        wait = wait < 6 * HOUR ? wait : 6 * HOUR;
        assert_true(found >= wait && found <= wait + wait / 20);
        assert_int_equal(f->ledger.info_failures, i);
        assert_int_equal(logged, 1);
        assert_ptr_equal(strstr(lines[0], "6 AC0182: autocert: a.example: CA scripted does not say when to "
                                "renew: "), lines[0]);
    }
    /* what is known stands */
    assert_int_equal(f->ledger.window_chosen, f->now + 30 * DAY);
    f->ledger.info_failures = APR_INT32_MAX;
    assert_true(ask(f) >= 6 * HOUR);
    answer(f, 200, "", "{" WINDOW "}");
    ask(f);
    assert_int_equal(f->ledger.info_failures, 0);
}

static void test_answers_of_no_use(void **state)
{
    static const struct {
        int status;
        const char *headers, *body;
        apr_interval_time_t wait;
    } rows[] = {
        { 404, "", "{}", 6 * HOUR },
        { 400, "", "{\"type\":\"urn:ietf:params:acme:error:malformed\"}", 6 * HOUR },
        { 200, "", "<html>", 6 * HOUR },
        { 200, "", "{" BETWEEN("2027-01-16T08:00:00Z", "2027-01-15T08:00:00Z") "}", 6 * HOUR },
        { 429, "Retry-After: 36000\r\n", "{}", 10 * HOUR },
        { 503, "Retry-After: 1000000\r\n", "{}", DAY }
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        apr_interval_time_t found;

        f->ledger.info_failures = 3;
        answer(f, rows[i].status, rows[i].headers, rows[i].body);
        found = ask(f);
        assert_true(found >= rows[i].wait && found <= rows[i].wait + rows[i].wait / 20 + 10 * SECOND);
        assert_int_equal(f->ledger.info_failures, 0);
        assert_int_equal(f->ledger.window_start, 0);
        assert_int_equal(logged, 1);
        assert_non_null(strstr(lines[0], "and the lifetime decides meanwhile"));
    }
}

static void test_what_cannot_be_asked(void **state)
{
    fixture_t *f = *state;
    manager_ledger_t before;

    /* a CA without renewal information is no trouble */
    script_drop(f->script->script, "GET /dir");
    script_add(f->script->script, "GET /dir", 200, "",
               "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\",\"newOrder\":\"$U/new\"}");
    script_restart(f->script);
    assert_true(ask(f) >= 6 * HOUR);
    assert_int_equal(logged, 0);

    /* nor is a certificate that cannot be asked about */
    crypto_bundle_free(f->bundle);
    f->bundle = make_bundle(f->now, f->now + 90 * DAY, 0);
    assert_true(ask(f) >= 6 * HOUR);
    assert_int_equal(logged, 1);
    assert_non_null(strstr(lines[0], "does not say whose key signed it"));

    /* asked to stop: nothing is known about the CA */
    crypto_bundle_free(f->bundle);
    f->bundle = make_bundle(f->now, f->now + 90 * DAY, 1);
    note_issuance(&f->ledger, f->bundle, 0, f->now);
    before = f->ledger;
    base_stop_raise(f->script->stop);
    script_restart(f->script);
    ask(f);
    assert_int_equal(logged, 0);
    assert_memory_equal(&f->ledger, &before, sizeof(before));
}

/* Somebody else put a certificate of this CA into the cache, or the record is of an earlier version. */
static void test_the_ledger_turns_to_another_certificate(void **state)
{
    fixture_t *f = *state;
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];

    set_window(&f->ledger, f->now + DAY);
    f->ledger.hasty = 3;
    f->ledger.visited = f->now;
    f->ledger.info_failures = 5;
    base_error_copy_text(f->ledger.explanation, sizeof(f->ledger.explanation), "https://ca.example/why");
    base_error_copy_text(f->ledger.account, sizeof(f->ledger.account), "https://ca.example/account/1");
    base_error_copy_text(f->ledger.certificate, sizeof(f->ledger.certificate), "other");
    answer(f, 404, "", "{}");
    ask(f);
    assert_string_equal(f->ledger.certificate, crypto_bundle_fingerprint(f->bundle, fingerprint));
    assert_string_equal(f->ledger.ca, f->script->config->directory_url);
    assert_string_equal(f->ledger.account, "");
    assert_string_equal(f->ledger.explanation, "");
    assert_int_equal(f->ledger.window_start, 0);
    assert_int_equal(f->ledger.window_end, 0);
    assert_int_equal(f->ledger.window_chosen, 0);
    assert_int_equal(f->ledger.issued, 0);
    assert_int_equal(f->ledger.hasty, 0);
    assert_int_equal(f->ledger.info_failures, 0);
    assert_int_equal(f->ledger.visited, f->now);
    /* and the plan knows when it is asked again */
    assert_int_equal(plan_of(&a_name, f->bundle, &f->ledger, 1, f->now).ask, f->ledger.info_next);
}

static int begin(void **state)
{
    (void)state;
    return crypto_key_generate(&key, CRYPTO_KEY_P256, NULL) != APR_SUCCESS;
}

static int end(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

static int set_up_cache(void **state)
{
    return script_set_up(state) == NULL;
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_ledger),
        cmocka_unit_test(test_the_earlier_of_both),
        cmocka_unit_test(test_another_certificate),
        cmocka_unit_test(test_before_go),
        cmocka_unit_test(test_a_window_of_the_past),
        cmocka_unit_test(test_when_to_ask),
        cmocka_unit_test(test_back_dated),
        cmocka_unit_test(test_note_window),
        cmocka_unit_test(test_the_instant_is_uniform),
        cmocka_unit_test_setup_teardown(test_windows_with_fractions, set_up_cache, script_tear_down),
        cmocka_unit_test(test_when_to_ask_again),
        cmocka_unit_test(test_no_storm),
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_no_loop_with_certificates_of_minutes),
        WITH_SERVER(test_ask),
        WITH_SERVER(test_the_ca_moves_the_window),
        WITH_SERVER(test_a_ca_that_is_down),
        WITH_SERVER(test_answers_of_no_use),
        WITH_SERVER(test_what_cannot_be_asked),
        WITH_SERVER(test_the_ledger_turns_to_another_certificate)
    };

    acme_http_init();
    run_begin(&root);
    return run_end(&root, cmocka_run_group_tests(tests, begin, end));
}
