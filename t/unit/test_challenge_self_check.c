/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/ssl.h>

#include "base/log.h"
#include "challenge/http01.h"
#include "challenge/self_check.h"
#include "challenge/tlsalpn01.h"
#include "crypto/challenge_cert.h"
#include "run.h"
#include "test_acme_server.h"

#define TOKEN "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define KEYAUTH TOKEN ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
#define PATH CHALLENGE_HTTP01_PREFIX TOKEN

static char logged[BASE_LOG_LINE_MAX];  /* the last line */
static int logged_level;
static apr_array_header_t *http, *https;
static challenge_listeners_t listeners;
static challenge_task_t task;
static base_stop_t *stop;
static base_error_t err;

static void take_line(void *baton, int level, const char *line)
{
    (void)baton;
    logged_level = level;
    apr_cpystrn(logged, line, sizeof(logged));
}

static int set_up(void **state)
{
    (void)state;
    http = apr_array_make(root, 2, sizeof(const char *));
    https = apr_array_make(root, 2, sizeof(const char *));
    listeners = (challenge_listeners_t){ http, https };
    base_stop_create(&stop, root);
    task = (challenge_task_t){
        .name = "a.example", .token = TOKEN, .key_authorization = KEYAUTH, .listeners = &listeners,
        .stop = stop
    };
    base_error_clear(&err);
    logged[0] = '\0';
    logged_level = -1;
    base_log_set(take_line, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    base_log_set(NULL, NULL);
    return 0;
}

static void add(apr_array_header_t *list, int port)
{
    APR_ARRAY_PUSH(list, const char *) = apr_psprintf(root, "127.0.0.1:%d", port);
}

/* A port that nobody listens on, but might have. */
static int find_closed_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    close(fd);
    return ntohs(address.sin_port);
}

/* A socket that takes connections and never answers. */
static int open_silent_port(int *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    *port = ntohs(address.sin_port);
    return fd;
}

#define ASSERT_LOGGED(level, id, text) do { \
        assert_int_equal(logged_level, (level)); \
        assert_memory_equal(logged, id ": autocert: ", sizeof(id ": autocert: ") - 1); \
        if (!strstr(logged, (text))) { \
            fail_msg("no \"%s\" in \"%s\"", (text), logged); \
        } \
    } while (0)

#define ASSERT_TOLD(id, text) do { \
        ASSERT_LOGGED(BASE_LOG_WARNING, id, text); \
        assert_non_null(strstr(logged, "; the CA is asked all the same")); \
    } while (0)

/* --- http-01 ------------------------------------------------------------------------ */

typedef struct script_t {
    int status;
    const char *location;       /* "%d" counts the requests */
    const char *body;           /* at the challenge's path; elsewhere it is the right one */
    char host[300];
    int requests;
} script_t;

static void answer(server_request_t *request, void *baton)
{
    script_t *script = baton;
    const char *host = strcasestr(request->headers, "\r\nhost: ");
    char headers[400] = "";

    script->requests++;
    if (host) {
        apr_snprintf(script->host, sizeof(script->host), "%.*s", (int)strcspn(host + 8, "\r"), host + 8);
    }
    if (strcmp(request->path, PATH) != 0 && strncmp(request->path, "/again", 6) != 0) {
        server_reply(request, 200, "", KEYAUTH);
        return;
    }
    if (script->location) {
        char location[300];

        apr_snprintf(location, sizeof(location), script->location, script->requests);
        apr_snprintf(headers, sizeof(headers), "Location: %s\r\n", location);
    }
    server_reply(request, script->status, headers, script->body ? script->body : "");
}

/* Look at one server that does as the script says. */
static void look_at(script_t *script)
{
    server_t *server = server_start_kind(SERVER_PLAIN, answer, script);

    apr_array_clear(http);
    add(http, server->port);
    logged[0] = '\0';
    script->requests = 0;
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    server_stop(server);
}

static void test_http_right(void **state)
{
    script_t script = { .status = 200, .body = KEYAUTH };

    (void)state;
    look_at(&script);
    ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "a.example: ");
    assert_string_equal(script.host, "a.example");
    task.name = "2001:db8::1";
    look_at(&script);
    ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "2001:db8::1: ");
    assert_string_equal(script.host, "[2001:db8::1]");
}

static void test_http_wrong(void **state)
{
    script_t absent = { .status = 404 }, other = { .status = 200, .body = KEYAUTH "\n" };
    script_t prefix = { .status = 200, .body = TOKEN };
    script_t no_target = { .status = 301 }, see_other = { .status = 303, .location = "/elsewhere" };

    (void)state;
    look_at(&absent);
    ASSERT_TOLD("AC0240", " answered 404: another module or a proxy answers /.well-known/acme-challenge/");
    look_at(&other);
    ASSERT_TOLD("AC0240", "another text (88 bytes) than the key authorization");
    look_at(&prefix);
    ASSERT_TOLD("AC0240", "another text");
    look_at(&no_target);
    ASSERT_TOLD("AC0240", "answered 301");
    look_at(&see_other);
    ASSERT_TOLD("AC0240", "answered 303");
}

static void test_http_redirects(void **state)
{
    static const char *const here[] = {
        "/elsewhere", "http://a.example/elsewhere", "HTTP://A.Example:80/elsewhere", "http://a.example?",
        "http://a.example:80"
    };
    static const char *const away[] = {
        "https://a.example" PATH, "http://b.example" PATH, "http://a.example.b.example/", "//a.example" PATH,
        "http://a.example:8080" PATH, "http://a.example@b.example/"
    };
    static const int statuses[] = { 301, 302, 307, 308 };
    script_t script = { .status = 302 };

    (void)state;
    for (size_t i = 0; i < sizeof(here) / sizeof(here[0]); i++) {
        script.location = here[i];
        look_at(&script);
        ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "nothing is wrong");
        assert_int_equal(script.requests, 2);
    }
    for (size_t i = 0; i < sizeof(away) / sizeof(away[0]); i++) {
        script.location = away[i];
        look_at(&script);
        ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "nothing is wrong");
        assert_int_equal(script.requests, 1);
    }
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        script.status = statuses[i];
        script.location = "/elsewhere";
        look_at(&script);
        assert_int_equal(script.requests, 2);
    }
}

static void test_http_redirect_loops(void **state)
{
    script_t same = { .status = 301, .location = PATH };
    script_t back = { .status = 301, .location = "http://a.example:80" PATH };
    script_t endless = { .status = 301, .location = "/again%d" };

    (void)state;
    look_at(&same);
    ASSERT_TOLD("AC0240", "redirect loop");
    assert_int_equal(same.requests, 1);
    look_at(&back);
    ASSERT_TOLD("AC0240", "redirect loop");
    assert_int_equal(back.requests, 1);
    look_at(&endless);
    ASSERT_TOLD("AC0240", "redirect loop");
    assert_int_equal(endless.requests, 11);
}

static void test_http_listeners(void **state)
{
    script_t script = { .status = 200, .body = KEYAUTH }, wrong = { .status = 404 };
    server_t *server = server_start_kind(SERVER_PLAIN, answer, &script);
    server_t *other = server_start_kind(SERVER_PLAIN, answer, &wrong);
    int closed = find_closed_port();

    (void)state;
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0240", "this server listens on no port without TLS");
    listeners.http = NULL;
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0240", "unless another server forwards port 80");
    listeners.http = http;
    add(http, closed);
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0240", apr_psprintf(root, "at 127.0.0.1:%d: ", closed));
    /* one that is right is enough */
    add(http, other->port);
    add(http, server->port);
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "nothing is wrong");
    /* the fifth is not asked */
    apr_array_clear(http);
    for (int i = 0; i < CHALLENGE_SELF_CHECK_LISTENERS_MAX; i++) {
        add(http, other->port);
    }
    add(http, server->port);
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0240", "answered 404");
    /* nothing to look at: nothing to say */
    logged[0] = '\0';
    task.listeners = NULL;
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    assert_int_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    assert_string_equal(logged, "");
    server_stop(server);
    server_stop(other);
}

/* A server whose workers are all busy may be right, whatever else listens. */
static void test_silent_listeners(void **state)
{
    script_t wrong = { .status = 404 };
    server_t *other = server_start_kind(SERVER_PLAIN, answer, &wrong);
    int port, fd = open_silent_port(&port);

    (void)state;
    add(http, other->port);
    add(http, port);
    add(https, port);
    assert_int_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    ASSERT_LOGGED(BASE_LOG_INFO, "AC0240", "answered 404");
    assert_int_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    ASSERT_LOGGED(BASE_LOG_INFO, "AC0241", "gave no answer in time; the CA is asked all the same");
    close(fd);
    server_stop(other);
}

static void raise_and_hang(server_request_t *request, void *baton)
{
    base_stop_raise(baton);
    server_hang(request);
}

static void test_http_stop(void **state)
{
    server_t *server = server_start_kind(SERVER_PLAIN, raise_and_hang, stop);

    (void)state;
    add(http, server->port);
    assert_int_not_equal(challenge_self_check_http(&task, root, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    server_stop(server);
}

/* --- tls-alpn-01 ---------------------------------------------------------------------- */

typedef struct alpn_t {
    int verdict;                /* of the callback */
    int raise;
    char sni[300];
    unsigned char list[32];     /* of the client */
    unsigned int list_len;
} alpn_t;

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *baton)
{
    alpn_t *alpn = baton;
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    apr_cpystrn(alpn->sni, sni ? sni : "", sizeof(alpn->sni));
    alpn->list_len = in_len < sizeof(alpn->list) ? in_len : sizeof(alpn->list);
    memcpy(alpn->list, in, alpn->list_len);
    if (alpn->raise) {
        base_stop_raise(stop);
    }
    *out = in + 1;
    *out_len = in[0];
    return alpn->verdict;
}

static void answer_nothing(server_request_t *request, void *baton)
{
    (void)baton;
    request->close = 1;
}

/* Look at a server with a certificate that answers for the name and key authorization; NULL: another one. */
static apr_status_t shake(alpn_t *alpn, const char *name, const char *key_authorization)
{
    server_t *server = server_start(answer_nothing, NULL);
    crypto_bundle_t *bundle = NULL;
    apr_status_t rv;

    if (name) {
        assert_int_equal(crypto_challenge_cert_make(&bundle, name, key_authorization, apr_time_now(), NULL),
                         APR_SUCCESS);
        SSL_CTX_use_certificate(server->ctx, bundle->leaf);
        SSL_CTX_use_PrivateKey(server->ctx, bundle->key);
    }
    SSL_CTX_set_alpn_select_cb(server->ctx, select_protocol, alpn);
    apr_array_clear(https);
    add(https, server->port);
    rv = challenge_self_check_tls(&task, root, &err);
    server_stop(server);
    crypto_bundle_free(bundle);
    return rv;
}

static void test_tls_right(void **state)
{
    alpn_t alpn = { .verdict = SSL_TLSEXT_ERR_OK };

    (void)state;
    assert_int_equal(shake(&alpn, "a.example", KEYAUTH), APR_SUCCESS);
    ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "a.example: ");
    assert_string_equal(alpn.sni, "a.example");
    assert_int_equal(alpn.list_len, 11);
    assert_memory_equal(alpn.list, "\x0a" "acme-tls/1", 11);
    task.name = "192.0.2.1";
    assert_int_equal(shake(&alpn, "192.0.2.1", KEYAUTH), APR_SUCCESS);
    assert_string_equal(alpn.sni, "1.2.0.192.in-addr.arpa");
    ASSERT_LOGGED(BASE_LOG_DEBUG, "AC0242", "192.0.2.1: ");
}

static void test_tls_wrong(void **state)
{
    alpn_t agrees = { .verdict = SSL_TLSEXT_ERR_OK }, ignores = { .verdict = SSL_TLSEXT_ERR_NOACK };
    alpn_t refuses = { .verdict = SSL_TLSEXT_ERR_ALERT_FATAL };

    (void)state;
    assert_int_equal(shake(&ignores, "a.example", KEYAUTH), APR_SUCCESS);
    ASSERT_TOLD("AC0241", "did not agree to acme-tls/1: another module or a proxy terminates TLS there");
    assert_int_equal(shake(&refuses, "a.example", KEYAUTH), APR_SUCCESS);
    ASSERT_TOLD("AC0241", "did not agree to acme-tls/1 (");
    assert_int_equal(shake(&agrees, NULL, NULL), APR_SUCCESS);
    ASSERT_TOLD("AC0241", "shows another certificate");
    assert_int_equal(shake(&agrees, "a.example", KEYAUTH "x"), APR_SUCCESS);
    ASSERT_TOLD("AC0241", "shows another certificate");
    assert_int_equal(shake(&agrees, "b.example", KEYAUTH), APR_SUCCESS);
    ASSERT_TOLD("AC0241", "shows another certificate");
}

static void test_tls_listeners(void **state)
{
    int closed = find_closed_port();

    (void)state;
    assert_int_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0241", "this server listens on no port with TLS");
    add(https, closed);
    assert_int_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0241", apr_psprintf(root, "nothing listens at 127.0.0.1:%d", closed));
    APR_ARRAY_IDX(https, 0, const char *) = apr_psprintf(root, "[::1]:%d", closed);
    assert_int_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    ASSERT_TOLD("AC0241", apr_psprintf(root, "nothing listens at [::1]:%d", closed));
    APR_ARRAY_IDX(https, 0, const char *) = "localhost:443";
    assert_int_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    ASSERT_LOGGED(BASE_LOG_INFO, "AC0241", "cannot be connected to");
}

static void test_tls_stop(void **state)
{
    alpn_t alpn = { .verdict = SSL_TLSEXT_ERR_OK, .raise = 1 };
    int port, fd = open_silent_port(&port);

    (void)state;
    assert_int_not_equal(shake(&alpn, "a.example", KEYAUTH), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    apr_array_clear(https);
    add(https, port);
    base_error_clear(&err);
    assert_int_not_equal(challenge_self_check_tls(&task, root, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    close(fd);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_http_right),
        TEST(test_http_wrong),
        TEST(test_http_redirects),
        TEST(test_http_redirect_loops),
        TEST(test_http_listeners),
        TEST(test_silent_listeners),
        TEST(test_http_stop),
        TEST(test_tls_right),
        TEST(test_tls_wrong),
        TEST(test_tls_listeners),
        TEST(test_tls_stop)
    };

    return SERVER_RUN_TESTS(tests);
}
