/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "base/hostname.h"
#include "manager/ask.h"
#include "test_acme_server.h"

#define NOW apr_time_from_sec(1800000000)
#define SECOND apr_time_from_sec(1)
#define NAME "shop.example.org"
#define THREADS 8
#define QUESTIONS 60                    /* of each thread */

typedef struct fixture_t {
    apr_pool_t *pool;
    server_t *server;
    base_stop_t *stop;
    manager_ask_t *ask;
    manager_ask_endpoint_t endpoint;
    base_error_t err;
    apr_time_t until;
} fixture_t;

static apr_time_t clock_now;

static apr_time_t now(void)
{
    return clock_now;
}

/* ---- the endpoint ---- */

/* Under the server's mutex: the request line's target as it came last, header lines for /control. */
static char last_path[256];
static const char *control = "";

static void answer_body(server_request_t *r, int declared)
{
    server_write(r, "HTTP/1.1 200 OK\r\n");
    if (declared) {
        server_write(r, "Content-Length: %d\r\n", MANAGER_ASK_BODY_MAX + 1);
    }
    server_write(r, "Connection: close\r\n\r\n");
    for (int i = 0; !declared && i < MANAGER_ASK_BODY_MAX / 8192 + 1; i++) {
        server_write(r, "%08192d", i);
    }
    r->close = 1;
}

static void answer(server_request_t *r, void *baton)
{
    const char *domain = strstr(r->path, "domain=");
    const char *headers;
    int status;

    pthread_mutex_lock(&r->server->mutex);
    memcpy(last_path, r->path, sizeof(last_path));
    headers = control;
    pthread_mutex_unlock(&r->server->mutex);
    if (strncmp(r->path, "/hang", 5) == 0) {
        if (baton != NULL) {
            base_stop_raise(*(base_stop_t **)baton);
        }
        server_hang(r);
    }
    else if (strncmp(r->path, "/names", 6) == 0) {
        server_reply(r, domain[7] == 'y' ? 200 : 404,
                     domain[8] == '1' ? "Cache-Control: max-age=30\r\n" : "", "");
    }
    else if (strncmp(r->path, "/control", 8) == 0) {
        server_reply(r, 200, headers, "");
    }
    else if (strncmp(r->path, "/garbage", 8) == 0) {
        server_write(r, "220 mail.example.org ESMTP ready\r\n");
        r->close = 1;
    }
    else if (strncmp(r->path, "/cut", 4) == 0) {
        server_write(r, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        r->close = 1;
    }
    else if (strncmp(r->path, "/large", 6) == 0) {
        answer_body(r, strncmp(r->path, "/larger", 7) == 0);
    }
    else if (sscanf(r->path, "/%d", &status) == 1) {
        server_reply(r, status, "Location: /200\r\n", status == 204 || status == 304 ? "" : "text");
    }
    else {
        r->close = 1;
    }
}

static int requests(fixture_t *f)
{
    int n;

    pthread_mutex_lock(&f->server->mutex);
    n = f->server->requests;
    pthread_mutex_unlock(&f->server->mutex);
    return n;
}

/* ---- the fixture ---- */

static int set_up_kind(void **state, server_kind_t kind)
{
    fixture_t *f = calloc(1, sizeof(*f));

    apr_pool_create(&f->pool, root);
    assert_int_equal(base_stop_create(&f->stop, f->pool), APR_SUCCESS);
    f->server = server_start_kind(kind, answer, &f->stop);
    clock_now = NOW;
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_kind(state, SERVER_PLAIN);
}

static int set_up_unix(void **state)
{
    return set_up_kind(state, SERVER_UNIX);
}

static int set_up_tls(void **state)
{
    return set_up_kind(state, SERVER_TLS);
}

static int tear_down(void **state)
{
    fixture_t *f = *state;

    server_stop(f->server);     /* its threads may be raising the stop */
    apr_pool_destroy(f->pool);
    free(f);
    return 0;
}

/* Begin with an empty memory and one endpoint; path is added to the server's URL. */
static void open_ask(fixture_t *f, const char *path, const base_stop_t *stop)
{
    apr_array_header_t *endpoints = apr_array_make(f->pool, 1, sizeof(&f->endpoint));

    f->endpoint.url = apr_pstrcat(f->pool, f->server->url, path, NULL);
    APR_ARRAY_PUSH(endpoints, const manager_ask_endpoint_t *) = &f->endpoint;
    assert_int_equal(manager_ask_create(&f->ask, endpoints, stop, now, f->pool), APR_SUCCESS);
}

static manager_ask_answer_t ask(fixture_t *f, const char *name)
{
    base_error_clear(&f->err);
    f->until = 0;
    return manager_ask(f->ask, &f->endpoint, name, "192.0.2.1", &f->until, f->pool, &f->err);
}

/* ---- URLs ---- */

static void test_check_url(void **state)
{
    static const char *const good[] = {
        "http://example.org", "https://example.org/may?x=1&domains=y&zip=1&skip", "HTTP://[::1]:80/",
        "http://localhost/a@b?c@d", "http://127.0.0.1:8080/?domainip=1", "http://example.org/domain=?"
    };
    static const struct {
        const char *url;
        const char *why;
    } bad[] = {
        { "ftp://example.org/", "http://HOST/PATH" },
        { "example.org/may", "http://HOST/PATH" },
        { "http:///may", "http://HOST/PATH" },
        { "http://", "http://HOST/PATH" },
        { "", "http://HOST/PATH" },
        { "http://example.org/a b", "http://HOST/PATH" },
        { "http://example.org:99999/", "http://HOST/PATH" },
        { "http://user:secret@example.org/", "user" },
        { "https://user@example.org?x", "user" },
        { "http://example.org/#part", "fragment" },
        { "http://example.org/?domain=x", "domain=" },
        { "http://example.org/?a=b&domain", "domain=" },
        { "http://example.org/?ip=&x", "domain=" },
        { "http://example.org/?ip&x=y", "domain=" },
        { "http://example.org?a&ip", "domain=" }
    };
    char *longest = apr_pcalloc(root, ACME_HTTP_URL_MAX + 1);

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_null(manager_ask_check_url(good[i], root));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *why = manager_ask_check_url(bad[i].url, root);

        assert_non_null(why);
        assert_non_null(strstr(why, bad[i].why));
    }
    memset(longest, 'a', ACME_HTTP_URL_MAX);
    memcpy(longest, "http://e/", 9);
    assert_non_null(strstr(manager_ask_check_url(longest, root), "too long"));
    longest[ACME_HTTP_URL_MAX - 330] = '\0';
    assert_null(manager_ask_check_url(longest, root));
}

/* The longest URL that passes the check can be asked about the longest name. */
static void test_longest_question(void **state)
{
    fixture_t *f = *state;
    char *path = apr_pcalloc(f->pool, ACME_HTTP_URL_MAX);
    char name[BASE_HOSTNAME_SIZE];

    memset(path, 'a', ACME_HTTP_URL_MAX - 1);
    memcpy(path, "/200", 4);
    memset(name, 'a', BASE_HOSTNAME_MAX);
    name[63] = name[127] = name[191] = '.';
    name[BASE_HOSTNAME_MAX] = '\0';
    do {
        path[strlen(path) - 1] = '\0';
    } while (manager_ask_check_url(apr_pstrcat(f->pool, f->server->url, path, NULL), f->pool));
    open_ask(f, path, NULL);
    assert_int_equal(manager_ask(f->ask, &f->endpoint, name, "1111:2222:3333:4444:5555:6666:255.255.255.255",
                                 &f->until, f->pool, NULL), MANAGER_ASK_YES);
}

static void test_query(void **state)
{
    static const struct {
        const char *path;
        const char *client;
        const char *asked;
    } cases[] = {
        { "/200", "", "/200?domain=" NAME },
        { "/200", "192.0.2.1", "/200?domain=" NAME "&ip=192.0.2.1" },
        { "/200", "2001:db8::1", "/200?domain=" NAME "&ip=2001:db8::1" },
        { "/200", "fe80::1%eth0", "/200?domain=" NAME "&ip=fe80::1" },
        { "/200", "x&domain=y", "/200?domain=" NAME },
        { "/200", "1.2.3.4&x=y", "/200?domain=" NAME },
        { "/200", "%1", "/200?domain=" NAME },
        { "/200", "1111:2222:3333:4444:5555:6666:7777:8888:9999:1", "/200?domain=" NAME },
        { "/200?", "", "/200?domain=" NAME },
        { "/200?key=%20a", "", "/200?key=%20a&domain=" NAME },
        { "/200?key=1&", "::1", "/200?key=1&domain=" NAME "&ip=::1" },
        { "", "", "/?domain=" NAME }
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_ask(f, cases[i].path, NULL);
        manager_ask(f->ask, &f->endpoint, NAME, cases[i].client, &f->until, f->pool, &f->err);
        pthread_mutex_lock(&f->server->mutex);
        assert_string_equal(last_path, cases[i].asked);
        pthread_mutex_unlock(&f->server->mutex);
    }
}

/* ---- answers ---- */

static void test_statuses(void **state)
{
    static const struct {
        const char *path;
        manager_ask_answer_t answer;
    } cases[] = {
        { "/200", MANAGER_ASK_YES }, { "/204", MANAGER_ASK_YES }, { "/299", MANAGER_ASK_YES },
        { "/300", MANAGER_ASK_NO }, { "/301", MANAGER_ASK_NO }, { "/302", MANAGER_ASK_NO },
        { "/307", MANAGER_ASK_NO }, { "/304", MANAGER_ASK_NO }, { "/401", MANAGER_ASK_NO },
        { "/403", MANAGER_ASK_NO }, { "/404", MANAGER_ASK_NO }, { "/429", MANAGER_ASK_NO },
        { "/500", MANAGER_ASK_NO }, { "/503", MANAGER_ASK_NO }
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int before = requests(f);

        open_ask(f, cases[i].path, NULL);
        assert_int_equal(ask(f, NAME), cases[i].answer);
        assert_int_equal(f->err.kind, BASE_ERROR_NONE);
        assert_int_equal(f->until, NOW + (cases[i].answer == MANAGER_ASK_YES
                                          ? MANAGER_ASK_YES_KEPT : MANAGER_ASK_NO_KEPT));
        assert_int_equal(requests(f), before + 1);      /* no redirect was followed */
    }
}

static void test_trouble(void **state)
{
    static const char *const paths[] = { "/garbage", "/cut", "/large", "/larger", "/close", "/hang" };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        open_ask(f, paths[i], NULL);
        /* only what hangs may end by the timeout: the others say more */
        f->endpoint.timeout = strcmp(paths[i], "/hang") == 0 ? apr_time_from_msec(150) : 0;
        assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
        assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
        assert_int_not_equal(f->err.status, APR_SUCCESS);
        assert_int_equal(f->until, NOW + MANAGER_ASK_TROUBLE_KEPT);
        assert_non_null(strstr(f->err.detail, paths[i]));
    }
    assert_int_equal(f->err.status, APR_TIMEUP);
}

static void test_no_connection(void **state)
{
    fixture_t *f = *state;

    open_ask(f, "", NULL);
    f->endpoint.url = "http://127.0.0.1:1/";
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
    /* also for a caller who does not want to know why */
    assert_int_equal(manager_ask(f->ask, &f->endpoint, "b.example.org", "", &f->until, f->pool, NULL),
                     MANAGER_ASK_TROUBLE);
    assert_int_equal(manager_ask(f->ask, &f->endpoint, "b.example.org", "", &f->until, f->pool, NULL),
                     MANAGER_ASK_TROUBLE);
}

static void test_unusable_questions(void **state)
{
    fixture_t *f = *state;
    manager_ask_endpoint_t other = { 0 };

    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, "a.example&domain=b.example"), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
    assert_int_equal(manager_ask(f->ask, &other, NAME, "", &f->until, f->pool, &f->err),
                     MANAGER_ASK_TROUBLE);
    assert_int_equal(manager_ask_canary(f->ask, &other, f->pool, &f->err), MANAGER_ASK_TROUBLE);
    assert_int_equal(requests(f), 0);
}

static void test_no_endpoints(void **state)
{
    apr_array_header_t *endpoints = apr_array_make(root, 1, sizeof(const manager_ask_endpoint_t *));
    manager_ask_t *a = NULL;

    (void)state;
    assert_int_equal(manager_ask_create(&a, endpoints, NULL, now, root), APR_SUCCESS);
    assert_non_null(a);
}

static void test_proxy_of_the_environment(void **state)
{
    fixture_t *f = *state;

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
    unsetenv("http_proxy");
}

static void test_unix(void **state)
{
    fixture_t *f = *state;

    f->endpoint.unix_path = f->server->socket;
    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
    f->endpoint.unix_path = "/nonexistent/socket";
    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
}

static void test_https(void **state)
{
    fixture_t *f = *state;

    f->endpoint.cafile = f->server->cafile;
    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
    f->endpoint.cafile = NULL;
    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
    f->endpoint.cafile = "/nonexistent/ca.pem";
    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
}

/* Raised by the endpoint, while it is being asked. */
static void test_stop(void **state)
{
    fixture_t *f = *state;

    open_ask(f, "/hang", f->stop);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
        assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
        assert_int_equal(f->until, NOW);
    }
    assert_int_equal(requests(f), 1);
    assert_int_equal(manager_ask_canary(f->ask, &f->endpoint, f->pool, &f->err), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
}

/* ---- how long they are kept ---- */

static void test_max_age(void **state)
{
    static const struct {
        const char *headers;
        apr_interval_time_t kept;
    } cases[] = {
        { "", MANAGER_ASK_YES_KEPT },
        { "Cache-Control:\r\n", MANAGER_ASK_YES_KEPT },
        { "Cache-Control: public, s-maxage=9\r\n", MANAGER_ASK_YES_KEPT },
        { "Cache-Control: x-max-age=9, max-ages=9\r\n", MANAGER_ASK_YES_KEPT },
        { "Cache-Control: max-age=120\r\n", 120 * SECOND },
        { "cache-control: private,Max-Age=7\r\n", 7 * SECOND },
        { "Cache-Control: max-age=\"90\"\r\n", 90 * SECOND },
        { "Cache-Control: private=\"a, max-age=3\" , max-age=8\r\n", 8 * SECOND },
        { "Cache-Control: x=\"a\\\", max-age=3\", max-age=8\r\n", 8 * SECOND },
        { "Cache-Control: x=\"open, max-age=3\r\n", MANAGER_ASK_YES_KEPT },
        { "Cache-Control: public\r\nCache-Control: max-age=20\r\n", 20 * SECOND },
        { "Cache-Control: max-age=20, max-age=40\r\n", 20 * SECOND },
        { "Cache-Control: max-age=0\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age=-1\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age=soon\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age=1.5\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age=\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age=3600\r\n", MANAGER_ASK_KEPT_MAX },
        { "Cache-Control: max-age=3601\r\n", MANAGER_ASK_KEPT_MAX },
        { "Cache-Control: max-age=99999999999999999999999999\r\n", MANAGER_ASK_KEPT_MAX },
        { "Cache-Control: no-store\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: max-age=100, No-Cache\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: no-cache=\"Set-Cookie\", max-age=100\r\n", MANAGER_ASK_KEPT_MIN },
        { "Cache-Control: ,,\t, max-age=11,,=,\"\r\n", 11 * SECOND }
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pthread_mutex_lock(&f->server->mutex);
        control = cases[i].headers;
        pthread_mutex_unlock(&f->server->mutex);
        open_ask(f, "/control", NULL);
        assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
        assert_int_equal(f->until - NOW, cases[i].kept);
    }
}

static void test_remembered(void **state)
{
    fixture_t *f = *state;

    open_ask(f, "/names", NULL);
    assert_int_equal(ask(f, "y.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "n.example.org"), MANAGER_ASK_NO);
    assert_int_equal(requests(f), 2);

    clock_now = NOW + MANAGER_ASK_NO_KEPT - 1;
    assert_int_equal(ask(f, "n.example.org"), MANAGER_ASK_NO);
    assert_int_equal(f->until, NOW + MANAGER_ASK_NO_KEPT);
    assert_int_equal(requests(f), 2);
    clock_now++;
    assert_int_equal(ask(f, "n.example.org"), MANAGER_ASK_NO);
    assert_int_equal(f->until, clock_now + MANAGER_ASK_NO_KEPT);
    assert_int_equal(requests(f), 3);

    clock_now = NOW + MANAGER_ASK_YES_KEPT - 1;
    assert_int_equal(ask(f, "Y.example.ORG."), MANAGER_ASK_YES);    /* one spelling */
    assert_int_equal(f->until, NOW + MANAGER_ASK_YES_KEPT);
    assert_int_equal(requests(f), 3);
    clock_now++;
    assert_int_equal(ask(f, "y.example.org"), MANAGER_ASK_YES);
    assert_int_equal(requests(f), 4);
}

static void test_client_does_not_matter(void **state)
{
    fixture_t *f = *state;

    open_ask(f, "/200", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
    assert_int_equal(manager_ask(f->ask, &f->endpoint, NAME, "2001:db8::1", &f->until, f->pool,
                                 &f->err), MANAGER_ASK_YES);
    assert_int_equal(requests(f), 1);
}

static void test_endpoints_are_apart(void **state)
{
    fixture_t *f = *state;
    manager_ask_endpoint_t two[2] = { { 0 } };
    apr_array_header_t *endpoints = apr_array_make(f->pool, 2, sizeof(const manager_ask_endpoint_t *));

    two[0].url = apr_pstrcat(f->pool, f->server->url, "/200", NULL);
    two[1].url = apr_pstrcat(f->pool, f->server->url, "/404", NULL);
    APR_ARRAY_PUSH(endpoints, const manager_ask_endpoint_t *) = &two[0];
    APR_ARRAY_PUSH(endpoints, const manager_ask_endpoint_t *) = &two[1];
    assert_int_equal(manager_ask_create(&f->ask, endpoints, NULL, now, f->pool), APR_SUCCESS);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(manager_ask(f->ask, &two[0], NAME, "", &f->until, f->pool, NULL),
                         MANAGER_ASK_YES);
        assert_int_equal(manager_ask(f->ask, &two[1], NAME, "", &f->until, f->pool, NULL),
                         MANAGER_ASK_NO);
    }
    assert_int_equal(requests(f), 2);
}

static void test_trouble_is_remembered_shortly(void **state)
{
    fixture_t *f = *state;
    char words[BASE_ERROR_DETAIL_MAX];

    open_ask(f, "/garbage", NULL);
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
    memcpy(words, f->err.detail, sizeof(words));
    clock_now = NOW + MANAGER_ASK_TROUBLE_KEPT - 1;
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
    assert_int_not_equal(f->err.status, APR_SUCCESS);
    assert_string_equal(f->err.detail, words);
    assert_int_equal(f->until, NOW + MANAGER_ASK_TROUBLE_KEPT);
    assert_int_equal(requests(f), 1);
    clock_now++;
    assert_int_equal(ask(f, NAME), MANAGER_ASK_TROUBLE);
    assert_int_equal(requests(f), 2);
}

/* Answers that would hold for longer than any may are asked for anew. */
static void test_clock_set_back(void **state)
{
    fixture_t *f = *state;

    open_ask(f, "/200", NULL);
    clock_now = NOW + 10 * MANAGER_ASK_KEPT_MAX;
    assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
    clock_now = NOW;
    assert_int_equal(ask(f, NAME), MANAGER_ASK_YES);
    assert_int_equal(f->until, NOW + MANAGER_ASK_YES_KEPT);
    assert_int_equal(requests(f), 2);
}

/* "y1...": kept for 30 s only, so it is the first to go. */
static void test_table_full(void **state)
{
    fixture_t *f = *state;
    apr_pool_t *pool;
    int i;

    apr_pool_create(&pool, f->pool);
    open_ask(f, "/names", NULL);
    assert_int_equal(ask(f, "y0.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "y1.example.org"), MANAGER_ASK_YES);
    for (i = 2; i < MANAGER_ASK_TABLE_MAX; i++) {
        clock_now = NOW + i;            /* microseconds: each ends later than the one before it */
        assert_int_equal(manager_ask(f->ask, &f->endpoint, apr_psprintf(pool, "yy%d.example.org", i),
                                     "", &f->until, pool, NULL), MANAGER_ASK_YES);
        apr_pool_clear(pool);
    }
    assert_int_equal(ask(f, "y0.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "y1.example.org"), MANAGER_ASK_YES);
    assert_int_equal(requests(f), MANAGER_ASK_TABLE_MAX);

    assert_int_equal(ask(f, "yz.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "y0.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "yy4095.example.org"), MANAGER_ASK_YES);
    assert_int_equal(requests(f), MANAGER_ASK_TABLE_MAX + 1);
    assert_int_equal(ask(f, "y1.example.org"), MANAGER_ASK_YES);
    assert_int_equal(requests(f), MANAGER_ASK_TABLE_MAX + 2);
    assert_int_equal(ask(f, "y0.example.org"), MANAGER_ASK_YES);    /* gone for y1 */
    assert_int_equal(requests(f), MANAGER_ASK_TABLE_MAX + 3);

    /* entries of a clock that was set back go before those that hold, which end earlier */
    clock_now = NOW - 10 * MANAGER_ASK_KEPT_MAX;
    assert_int_equal(ask(f, "yz2.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "yz3.example.org"), MANAGER_ASK_YES);
    assert_int_equal(ask(f, "yz2.example.org"), MANAGER_ASK_YES);
    assert_int_equal(requests(f), MANAGER_ASK_TABLE_MAX + 5);
}

/* ---- the canary ---- */

static void test_canary(void **state)
{
    fixture_t *f = *state;
    char first[sizeof(last_path)];

    open_ask(f, "/200", NULL);
    assert_int_equal(manager_ask_canary(f->ask, &f->endpoint, f->pool, &f->err), MANAGER_ASK_YES);
    pthread_mutex_lock(&f->server->mutex);
    memcpy(first, last_path, sizeof(first));
    pthread_mutex_unlock(&f->server->mutex);
    assert_non_null(strstr(first, ".invalid"));
    assert_null(strstr(first, "ip="));
    assert_int_equal(manager_ask_canary(f->ask, &f->endpoint, f->pool, &f->err), MANAGER_ASK_YES);
    pthread_mutex_lock(&f->server->mutex);
    assert_string_not_equal(first, last_path);
    pthread_mutex_unlock(&f->server->mutex);
    assert_int_equal(requests(f), 2);
    /* nothing of it is remembered: the same name is asked about */
    assert_int_equal(ask(f, strstr(first, "domain=") + 7), MANAGER_ASK_YES);
    assert_int_equal(requests(f), 3);

    open_ask(f, "/404", NULL);
    assert_int_equal(manager_ask_canary(f->ask, &f->endpoint, f->pool, &f->err), MANAGER_ASK_NO);
    open_ask(f, "/garbage", NULL);
    assert_int_equal(manager_ask_canary(f->ask, &f->endpoint, f->pool, &f->err), MANAGER_ASK_TROUBLE);
    assert_int_equal(f->err.kind, BASE_ERROR_REFUSED);
}

/* ---- threads ---- */

static void *ask_much(void *data)
{
    fixture_t *f = data;
    apr_pool_t *pool;
    intptr_t wrong = 0;
    base_error_t err;
    apr_time_t until;

    apr_pool_create(&pool, NULL);
    for (int i = 0; i < QUESTIONS; i++) {
        const char *name = apr_psprintf(pool, "%c%d.example.org", i % 2 ? 'y' : 'n', 100 + i % 20);

        wrong += manager_ask(f->ask, &f->endpoint, name, "", &until, pool, &err)
                 != (i % 2 ? MANAGER_ASK_YES : MANAGER_ASK_NO);
        if (i % 20 == 0) {
            wrong += manager_ask_canary(f->ask, &f->endpoint, pool, &err) == MANAGER_ASK_TROUBLE;
        }
        apr_pool_clear(pool);
    }
    apr_pool_destroy(pool);
    return (void *)wrong;
}

static void test_threads(void **state)
{
    fixture_t *f = *state;
    pthread_t threads[THREADS];

    open_ask(f, "/names", NULL);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, ask_much, f);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;

        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_true(requests(f) >= 20 && requests(f) <= THREADS * 23);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_url),
        cmocka_unit_test(test_no_endpoints),
        WITH_SERVER(test_longest_question),
        WITH_SERVER(test_query),
        WITH_SERVER(test_statuses),
        WITH_SERVER(test_trouble),
        WITH_SERVER(test_no_connection),
        WITH_SERVER(test_unusable_questions),
        WITH_SERVER(test_proxy_of_the_environment),
        cmocka_unit_test_setup_teardown(test_unix, set_up_unix, tear_down),
        cmocka_unit_test_setup_teardown(test_https, set_up_tls, tear_down),
        WITH_SERVER(test_stop),
        WITH_SERVER(test_max_age),
        WITH_SERVER(test_remembered),
        WITH_SERVER(test_client_does_not_matter),
        WITH_SERVER(test_endpoints_are_apart),
        WITH_SERVER(test_trouble_is_remembered_shortly),
        WITH_SERVER(test_clock_set_back),
        WITH_SERVER(test_table_full),
        WITH_SERVER(test_canary),
        WITH_SERVER(test_threads),
    };

    return SERVER_RUN_TESTS(tests);
}
