/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "acme/http.h"
#include "test_acme_server.h"

#define NOW apr_time_from_sec(1800000000)
#define ENDS_AT_ONCE apr_time_from_sec(10)  /* a busy machine; the request itself has 30 s */

static base_stop_t *_Atomic late_stop;      /* raised by the server before it answers /late */
static _Atomic int unanswered;              /* requests for /unanswered */

typedef struct fixture_t {
    apr_pool_t *pool;
    server_t *server;
    base_stop_t *stop;
    acme_http_t *http;
    base_error_t err;
    acme_http_response_t *response;
} fixture_t;

static acme_http_response_t *make_response(apr_pool_t *pool, const char *url)
{
    acme_http_response_t *response = apr_pcalloc(pool, sizeof(*response));

    response->url = url;
    response->body = apr_pstrdup(pool, "");
    response->headers = apr_table_make(pool, 4);
    return response;
}

static void answer(server_request_t *r, void *baton)
{
    int i;

    (void)baton;
    if (strcmp(r->path, "/hello") == 0) {
        server_reply(r, 200, "X-One: 1\r\nx-one:  2 \r\nLink: </a>;rel=\"up\"\r\n",
                     strstr(r->headers, "User-Agent: test/1\r\n") != NULL
                     && strstr(r->headers, "Accept-Language: en") != NULL
                     && strstr(r->headers, "Expect") == NULL ? "as asked" : r->headers);
    }
    else if (strcmp(r->path, "/echo") == 0) {
        server_reply(r, 200, "", strstr(r->headers, "Content-Type: application/jose+json") != NULL
                                 ? r->body : "type");
    }
    else if (strcmp(r->path, "/moved") == 0) {
        server_reply(r, 301, "Location: hello\r\nX-Old: 1\r\n", "old body");
    }
    else if (strcmp(r->path, "/down") == 0) {
        server_reply(r, 301, "Location: http://127.0.0.1:1/\r\n", "");
    }
    else if (strcmp(r->path, "/round") == 0) {
        server_reply(r, 302, "Location: /round\r\n", "");
    }
    else if (strcmp(r->path, "/interim") == 0) {
        server_write(r, "HTTP/1.1 103 Early\r\nX-Early: 1\r\n\r\n");
        server_reply(r, 404, "X-Late: 1\r\n", "gone");
    }
    else if (strcmp(r->path, "/large") == 0) {
        server_write(r, "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n");
        r->close = 1;
    }
    else if (strcmp(r->path, "/endless") == 0) {
        server_write(r, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for (i = 0; i < 64; i++) {
            server_write(r, "%08000d", i);
        }
        r->close = 1;
    }
    else if (strcmp(r->path, "/lines") == 0) {
        server_write(r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        for (i = 0; i < ACME_HTTP_HEADERS_MAX + 5; i++) {
            server_write(r, "X-%d: y\r\n", i);
        }
        server_write(r, "\r\n");
    }
    else if (strcmp(r->path, "/drip") == 0) {
        server_write(r, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for (i = 0; i < 40 && !r->server->stopping; i++) {
            server_write(r, "x");
            usleep(50000);
        }
        r->close = 1;
    }
    else if (strcmp(r->path, "/late") == 0) {
        base_stop_raise(late_stop);
        usleep(50000);
        server_reply(r, 200, "", "late");
    }
    else if (strcmp(r->path, "/unanswered") == 0) {
        unanswered++;
        r->close = 1;
    }
    else if (strcmp(r->path, "/close") == 0) {
        server_reply(r, 200, "", "closing");
        r->close = 1;
    }
    else {
        server_hang(r);
    }
}

static int set_up_kind(void **state, server_kind_t kind)
{
    fixture_t *f = calloc(1, sizeof(*f));
    acme_http_config_t config = { .user_agent = "test/1" };

    apr_pool_create(&f->pool, root);
    f->server = server_start_kind(kind, answer, NULL);
    config.cafile = kind == SERVER_TLS ? f->server->cafile : NULL;
    config.plain = kind != SERVER_TLS;
    config.unix_path = kind == SERVER_UNIX ? f->server->socket : NULL;
    assert_int_equal(base_stop_create(&f->stop, f->pool), APR_SUCCESS);
    assert_int_equal(acme_http_create(&f->http, &config, f->stop, f->pool), APR_SUCCESS);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_kind(state, SERVER_TLS);
}

static int set_up_plain(void **state)
{
    return set_up_kind(state, SERVER_PLAIN);
}

static int set_up_unix(void **state)
{
    return set_up_kind(state, SERVER_UNIX);
}

static int tear_down(void **state)
{
    fixture_t *f = *state;

    apr_pool_destroy(f->pool);
    server_stop(f->server);
    free(f);
    return 0;
}

static apr_status_t ask(fixture_t *f, const char *method, const char *path, const char *body,
                        int msec)
{
    acme_http_request_t request = { 0 };

    request.method = method;
    request.url = apr_pstrcat(f->pool, f->server->url, path, NULL);
    request.body = body;
    request.timeout = apr_time_from_msec(msec);
    base_error_clear(&f->err);
    return acme_http_do(f->http, &request, &f->response, f->pool, &f->err);
}

static void test_url(void **state)
{
    char *longest = apr_pcalloc(root, ACME_HTTP_URL_MAX + 2);

    (void)state;
    memset(longest, 'a', ACME_HTTP_URL_MAX + 1);
    memcpy(longest, "https://e/", 10);
    assert_true(acme_http_url_is_usable("https://example.org"));
    assert_true(acme_http_url_is_usable("HTTPS://example.org:14000/dir?x=%20"));
    assert_true(acme_http_url_is_usable("https://[::1]:1/"));
    assert_false(acme_http_url_is_usable(NULL));
    assert_false(acme_http_url_is_usable(""));
    assert_false(acme_http_url_is_usable("http://example.org/"));
    assert_false(acme_http_url_is_usable("https://"));
    assert_false(acme_http_url_is_usable("https:///path"));
    assert_false(acme_http_url_is_usable("https://example.org/a b"));
    assert_false(acme_http_url_is_usable("https://example.org/\xc3\xa4"));
    assert_false(acme_http_url_is_usable("https://user:pw@example.org/"));
    assert_false(acme_http_url_is_usable("https://example.org:99999/"));
    assert_false(acme_http_url_is_usable(longest));
    longest[ACME_HTTP_URL_MAX] = '\0';
    assert_true(acme_http_url_is_usable(longest));
    assert_true(acme_http_url_is_usable_plain("http://example.org/x?y"));
    assert_true(acme_http_url_is_usable_plain("HTTP://example.org"));
    assert_true(acme_http_url_is_usable_plain("https://example.org/"));
    assert_false(acme_http_url_is_usable_plain(NULL));
    assert_false(acme_http_url_is_usable_plain("http:///path"));
    assert_false(acme_http_url_is_usable_plain("http://user@example.org/"));
    assert_false(acme_http_url_is_usable_plain("ftp://example.org/"));
    assert_false(acme_http_url_is_usable_plain("example.org"));
}

static void test_resolve(void **state)
{
    static const struct {
        const char *reference;
        const char *url;
    } cases[] = {
        { "https://other.example", "https://other.example" },
        { "https://other.example/A/../b", "https://other.example/A/../b" },
        { "/order/1", "https://ca.example:8443/order/1" },
        { "2", "https://ca.example:8443/acme/2" },
        { "../x", "https://ca.example:8443/x" },
        { "?q", "https://ca.example:8443/acme/new?q" },
        { "//host/p", "https://host/p" },
        { "http://ca.example/", NULL },
        { "data:text/plain,x", NULL },
        { "a b", NULL },
        { "", NULL },
        { NULL, NULL }
    };
    acme_http_response_t *r = make_response(root, "https://ca.example:8443/acme/new");
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *url = acme_http_resolve(r, cases[i].reference, root);

        if (cases[i].url == NULL) {
            assert_null(url);
        }
        else {
            assert_non_null(url);
            assert_string_equal(url, cases[i].url);
        }
    }
}

static void test_link(void **state)
{
    acme_http_response_t *r = make_response(root, "https://ca.example/new");

    (void)state;
    apr_table_addn(r->headers, "Link", "</dir>;rel=\"index\", </tos>; title=\"a, \\\"b;rel=up\" ;"
                   " REL=\"Terms-Of-Service\"");
    apr_table_addn(r->headers, "link", "<https://ca.example/a1>;rel=alternate,"
                   "</a2> ; rel = \"help alternate\" , </a3>;rel=first;rel=second");
    apr_table_addn(r->headers, "Link", "garbage, </never>;rel=never");
    apr_table_addn(r->headers, "Link", "</open");
    apr_table_addn(r->headers, "Link", "<http://ca.example/>;rel=plain");
    assert_string_equal(acme_http_link(r, "index", root), "https://ca.example/dir");
    assert_string_equal(acme_http_link(r, "terms-of-service", root), "https://ca.example/tos");
    assert_string_equal(acme_http_link(r, "alternate", root), "https://ca.example/a1");
    assert_string_equal(acme_http_link(r, "help", root), "https://ca.example/a2");
    assert_string_equal(acme_http_link(r, "first", root), "https://ca.example/a3");
    assert_null(acme_http_link(r, "second", root));
    assert_null(acme_http_link(r, "up", root));
    assert_null(acme_http_link(r, "alter", root));
    assert_null(acme_http_link(r, "plain", root));
    assert_null(acme_http_link(r, "never", root));
}

static void test_links(void **state)
{
    acme_http_response_t *r = make_response(root, "https://ca.example/cert");
    apr_array_header_t *urls;

    (void)state;
    apr_table_addn(r->headers, "Link", "</1>;rel=alternate, <http://plain.example/>;rel=alternate");
    apr_table_addn(r->headers, "Link", "</up>;rel=up");
    apr_table_addn(r->headers, "link", "<https://ca.example/2>;rel=alternate");
    apr_table_addn(r->headers, "Link", "</3>;rel=\"alternate\", </4>;rel=alternate");
    urls = acme_http_links(r, "alternate", 8, root);
    assert_int_equal(urls->nelts, 4);
    assert_string_equal(APR_ARRAY_IDX(urls, 0, const char *), "https://ca.example/1");
    assert_string_equal(APR_ARRAY_IDX(urls, 3, const char *), "https://ca.example/4");
    /* The unusable one counts: what a CA may make us do is bounded by what it sends. */
    assert_int_equal(acme_http_links(r, "alternate", 3, root)->nelts, 2);
    assert_int_equal(acme_http_links(r, "next", 3, root)->nelts, 0);
}

static apr_time_t retry_after(const char *value, const char *date)
{
    acme_http_response_t *r = make_response(root, "https://ca.example/");

    if (value != NULL) {
        apr_table_addn(r->headers, "retry-after", value);
    }
    if (date != NULL) {
        apr_table_addn(r->headers, "DATE", date);
    }
    return acme_http_retry_after(r, NOW);
}

static void test_retry_after(void **state)
{
    apr_time_t year = NOW + apr_time_from_sec(365 * 24 * 3600);

    (void)state;
    assert_int_equal(retry_after(NULL, NULL), 0);
    assert_int_equal(retry_after("3", NULL), NOW + apr_time_from_sec(3));
    assert_int_equal(retry_after("0", NULL), NOW);
    assert_int_equal(retry_after("86400 ", NULL), NOW + apr_time_from_sec(86400));
    assert_int_equal(retry_after("99999999999999999999999", NULL), year);
    assert_int_equal(retry_after("999999999", NULL), year);
    assert_int_equal(retry_after("-5", NULL), 0);
    assert_int_equal(retry_after("1e12", NULL), 0);
    assert_int_equal(retry_after("soon", NULL), 0);
    assert_int_equal(retry_after("", NULL), 0);
    /* NOW is Fri, 15 Jan 2027 08:00:00 GMT; the second pair is on a clock years behind. */
    assert_int_equal(retry_after("Fri, 15 Jan 2027 08:01:00 GMT", NULL),
                     NOW + apr_time_from_sec(60));
    assert_int_equal(retry_after("Sun, 06 Nov 1994 08:50:37 GMT",
                                 "Sun, 06 Nov 1994 08:49:37 GMT"), NOW + apr_time_from_sec(60));
    assert_int_equal(retry_after("Sun, 06 Nov 1994 08:49:37 GMT",
                                 "Sun, 06 Nov 1994 08:50:37 GMT"), 0);
    assert_int_equal(retry_after("Fri, 15 Jan 2027 07:00:00 GMT", NULL), 0);
    assert_int_equal(retry_after("Fri, 15 Jan 2055 08:00:00 GMT", NULL), year);
}

static void test_get(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->response->status, 200);
    assert_string_equal(f->response->body, "as asked");
    assert_int_equal(f->response->len, 8);
    assert_string_equal(acme_http_header(f->response, "X-ONE"), "1");
    assert_non_null(strstr(apr_table_getm(f->pool, f->response->headers, "x-one"), "2"));
    assert_null(acme_http_header(f->response, "X-Two"));
}

static void test_post(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "POST", "/echo", "{\"a\":1}", 0), APR_SUCCESS);
    assert_string_equal(f->response->body, "{\"a\":1}");
}

static void test_redirects(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", "/moved", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->response->status, 200);
    assert_string_equal(f->response->body, "as asked");
    assert_string_equal(f->response->url, apr_pstrcat(f->pool, f->server->url, "/hello", NULL));
    assert_null(acme_http_header(f->response, "X-Old"));

    assert_int_equal(ask(f, "POST", "/moved", "{}", 0), APR_SUCCESS);
    assert_int_equal(f->response->status, 301);

    assert_int_not_equal(ask(f, "GET", "/down", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_null(f->response);
    assert_int_not_equal(ask(f, "GET", "/round", NULL, 0), APR_SUCCESS);
}

static void test_interim(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", "/interim", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->response->status, 404);
    assert_null(acme_http_header(f->response, "X-Early"));
    assert_non_null(acme_http_header(f->response, "X-Late"));
}

static void test_bounds(void **state)
{
    static const char *const paths[] = { "/large", "/endless", "/lines" };
    fixture_t *f = *state;
    size_t i;

    for (i = 0; i < 3; i++) {
        assert_int_not_equal(ask(f, "GET", paths[i], NULL, 0), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
        assert_non_null(strstr(f->err.detail, paths[i]));
    }
    assert_non_null(strstr(f->err.detail, "header lines"));
}

static void test_drip(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", "/drip", NULL, 400), APR_TIMEUP);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void *raise_soon(void *stop)
{
    usleep(150000);
    base_stop_raise(stop);
    return NULL;
}

static void test_stop(void **state)
{
    fixture_t *f = *state;
    pthread_t thread;
    apr_time_t begin;

    pthread_create(&thread, NULL, raise_soon, f->stop);
    begin = apr_time_now();
    assert_int_not_equal(ask(f, "GET", "/hang", NULL, 0), APR_SUCCESS);
    assert_true(apr_time_now() - begin < ENDS_AT_ONCE);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_not_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
}

/* What the CA has done already should be known: a POST may end, a new one is not begun. */
static void test_stop_lets_a_post_end(void **state)
{
    fixture_t *f = *state;

    late_stop = f->stop;
    assert_int_equal(ask(f, "POST", "/late", "{}", 0), APR_SUCCESS);
    assert_string_equal(f->response->body, "late");
    assert_true(base_stop_is_raised(f->stop));
    assert_int_not_equal(ask(f, "POST", "/late", "{}", 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
}

static void test_stop_ends_a_post_too(void **state)
{
    fixture_t *f = *state;
    pthread_t thread;
    apr_time_t begin = apr_time_now();

    pthread_create(&thread, NULL, raise_soon, f->stop);
    assert_int_not_equal(ask(f, "POST", "/hang", "{}", 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
    assert_true(apr_time_now() - begin < ENDS_AT_ONCE);
    pthread_join(thread, NULL);
}

static void test_reuse(void **state)
{
    fixture_t *f = *state;
    int i;

    for (i = 0; i < 4; i++) {
        assert_int_equal(ask(f, i % 2 ? "POST" : "GET", "/echo", "x", 0), APR_SUCCESS);
    }
    assert_int_equal(server_accepts(f->server), 1);
}

static void test_dead_connection(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", "/close", NULL, 0), APR_SUCCESS);
    usleep(50000);
    assert_int_equal(ask(f, "POST", "/echo", "again", 0), APR_SUCCESS);
    assert_string_equal(f->response->body, "again");
}

/* A connection that was kept ends after the request: libcurl sends a GET once more, but nobody a POST. */
static void test_post_is_sent_once(void **state)
{
    fixture_t *f = *state;

    unanswered = 0;
    assert_int_equal(ask(f, "POST", "/echo", "{}", 0), APR_SUCCESS);
    assert_int_not_equal(ask(f, "POST", "/unanswered", "{}", 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_non_null(strstr(f->err.detail, "/unanswered: the connection ended without an answer"));
    assert_int_equal(unanswered, 1);
    unanswered = 0;
    assert_int_equal(ask(f, "POST", "/echo", "{}", 0), APR_SUCCESS);
    assert_int_not_equal(ask(f, "GET", "/unanswered", NULL, 0), APR_SUCCESS);
    assert_int_equal(unanswered, 2);
}

static void test_trust(void **state)
{
    fixture_t *f = *state;
    acme_http_config_t config = { .user_agent = "test/1" };

    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_not_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    config.cafile = "/nonexistent/ca.pem";
    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_not_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_LOCAL);
}

static void test_proxy(void **state)
{
    fixture_t *f = *state;
    acme_http_config_t config = { .user_agent = "test/1", .cafile = f->server->cafile,
                                  .proxy = "http://127.0.0.1:1" };

    setenv("https_proxy", "http://127.0.0.1:1", 1);
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    setenv("no_proxy", "*", 1);
    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_not_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    unsetenv("https_proxy");
    unsetenv("no_proxy");
}

static void test_no_connection(void **state)
{
    fixture_t *f = *state;
    acme_http_request_t request = { 0 };

    request.method = "GET";
    request.url = "https://127.0.0.1:1/";
    assert_int_not_equal(acme_http_do(f->http, &request, &f->response, f->pool, &f->err),
                         APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    request.url = "http://127.0.0.1:1/";
    assert_int_equal(acme_http_do(f->http, &request, &f->response, f->pool, &f->err), APR_EINVAL);
}

/* For http the environment's proxy stands in another variable. */
static void test_plain(void **state)
{
    fixture_t *f = *state;
    acme_http_config_t config = { .user_agent = "test/1" };

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    unsetenv("http_proxy");
    assert_int_equal(f->response->status, 200);
    assert_string_equal(f->response->body, "as asked");
    assert_int_equal(ask(f, "GET", "/moved", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->response->status, 200);

    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_EINVAL);
}

static void test_unix_path(void **state)
{
    fixture_t *f = *state;
    acme_http_config_t config = { .user_agent = "test/1", .plain = 1,
                                  .unix_path = "/nonexistent/socket" };

    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_string_equal(f->response->body, "as asked");
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(server_accepts(f->server), 1);

    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_not_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void test_no_redirects(void **state)
{
    fixture_t *f = *state;
    acme_http_config_t config = { .user_agent = "test/1", .plain = 1, .no_redirects = 1 };

    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_equal(ask(f, "GET", "/moved", NULL, 0), APR_SUCCESS);
    assert_int_equal(f->response->status, 301);
    assert_string_equal(f->response->body, "old body");
    assert_non_null(acme_http_header(f->response, "X-Old"));
}

/* The URL's host need not exist. */
static void test_connect_to(void **state)
{
    fixture_t *f = *state;
    acme_http_config_t config = { .user_agent = "test/1", .plain = 1 };

    config.connect_to = apr_psprintf(f->pool, "127.0.0.1:%d", f->server->port);
    snprintf(f->server->url, sizeof(f->server->url), "http://nowhere.invalid");
    assert_int_equal(acme_http_create(&f->http, &config, NULL, f->pool), APR_SUCCESS);
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_string_equal(f->response->body, "as asked");
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_int_equal(server_accepts(f->server), 1);
    snprintf(f->server->url, sizeof(f->server->url), "http://[2001:db8::1]:8080");
    assert_int_equal(ask(f, "GET", "/hello", NULL, 0), APR_SUCCESS);
    assert_string_equal(f->response->body, "as asked");
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_retry_after),
        WITH_SERVER(test_get),
        WITH_SERVER(test_post),
        WITH_SERVER(test_redirects),
        WITH_SERVER(test_interim),
        WITH_SERVER(test_bounds),
        WITH_SERVER(test_drip),
        WITH_SERVER(test_stop),
        WITH_SERVER(test_stop_lets_a_post_end),
        WITH_SERVER(test_stop_ends_a_post_too),
        WITH_SERVER(test_reuse),
        WITH_SERVER(test_dead_connection),
        WITH_SERVER(test_post_is_sent_once),
        WITH_SERVER(test_trust),
        WITH_SERVER(test_proxy),
        WITH_SERVER(test_no_connection),
        cmocka_unit_test_setup_teardown(test_plain, set_up_plain, tear_down),
        cmocka_unit_test_setup_teardown(test_unix_path, set_up_unix, tear_down),
        cmocka_unit_test_setup_teardown(test_connect_to, set_up_plain, tear_down),
        cmocka_unit_test_setup_teardown(test_no_redirects, set_up_plain, tear_down),
    };

    return SERVER_RUN_TESTS(tests);
}
