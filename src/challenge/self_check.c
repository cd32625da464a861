/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/self_check.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "acme/http.h"
#include "base/log.h"
#include "challenge/http01.h"
#include "challenge/tlsalpn01.h"
#include "crypto/challenge_cert.h"

#define LISTENER_MAX apr_time_from_sec(2)       /* for one listener */
#define HOPS_MAX 10                             /* redirects, as many as CAs follow */
#define USER_AGENT "mod_autocert (a look at the own answer)"
#define ADDRESS_MAX 80                          /* bytes of a listener's address, with the NUL */

/* What one listener showed. */
typedef enum {
    LOOK_RIGHT,
    LOOK_WRONG,
    LOOK_UNKNOWN,               /* no answer in time: whoever answers may be busy */
    LOOK_STOPPED
} look_t;

/* One look at all listeners. */
typedef struct visit_t {
    const challenge_task_t *task;
    const char *listener;       /* "127.0.0.1:80", the one that is asked now */
    apr_time_t deadline;        /* of all of it */
    apr_time_t listener_end;    /* of this listener's part */
    const char *words;          /* what is not right, for people */
    apr_pool_t *pool;
} visit_t;

typedef look_t look_fn(visit_t *visit);

static look_t judge(visit_t *visit, look_t look, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Note what was seen, and pass it on. */
static look_t judge(visit_t *visit, look_t look, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    visit->words = apr_pvsprintf(visit->pool, fmt, args);
    va_end(args);
    return look;
}

/* --- http-01 ---------------------------------------------------------------------- */

/* Whether a redirect leads to this very server without TLS.
 * @return the URL to ask for next; NULL for another place, of which nobody here can tell anything */
static const char *find_hop(const char *origin, const char *location, apr_pool_t *pool)
{
    size_t len = strlen(origin);

    if (location[0] == '/' && location[1] != '/')
        return apr_pstrcat(pool, origin, location, NULL);
    if (strncasecmp(location, origin, len) != 0)
        return NULL;
    location += len;
    if (strncmp(location, ":80", 3) == 0 && strchr("/?#", location[3]))
        location += 3;
    if (location[0] != '\0' && !strchr("/?#", location[0]))
        return NULL;
    return apr_pstrcat(pool, origin, location[0] == '/' ? "" : "/", location, NULL);
}

static int is_redirect(int status)
{
    return status == 301 || status == 302 || status == 307 || status == 308;
}

/* The answer to a request: the key authorization and nothing else, or words about it. */
static look_t judge_response(visit_t *visit, const acme_http_response_t *response)
{
    const char *wanted = visit->task->key_authorization;

    if (response->status != 200)
        return judge(visit, LOOK_WRONG, "%s answered %d: another module or a proxy answers "
                     CHALLENGE_HTTP01_PREFIX, visit->listener, response->status);
    if (response->len != strlen(wanted) || memcmp(response->body, wanted, response->len) != 0)
        return judge(visit, LOOK_WRONG, "%s answered with another text (%lu bytes) than the key "
                     "authorization: another module or a proxy answers " CHALLENGE_HTTP01_PREFIX,
                     visit->listener, (unsigned long)response->len);
    return LOOK_RIGHT;
}

/* What a request that failed means. */
static look_t judge_failure(visit_t *visit, const base_error_t *err)
{
    if (err->kind == BASE_ERROR_CANCELLED)
        return LOOK_STOPPED;
    if (err->status == APR_TIMEUP || err->kind == BASE_ERROR_LOCAL)
        return judge(visit, LOOK_UNKNOWN, "%s gave no answer in time", visit->listener);
    return judge(visit, LOOK_WRONG, "at %s: %s", visit->listener, err->detail);
}

/* Ask as a CA does, and go where redirects lead as long as that is here. */
static look_t follow(visit_t *visit, acme_http_t *http, apr_pool_t *pool)
{
    const char *name = visit->task->name, *seen[HOPS_MAX + 1];
    const char *origin = apr_psprintf(pool, strchr(name, ':') ? "http://[%s]" : "http://%s", name);
    acme_http_request_t request = { .method = "GET" };
    acme_http_response_t *response = NULL;
    base_error_t err;
    int hops, i;

    request.url = apr_pstrcat(pool, origin, CHALLENGE_HTTP01_PREFIX, visit->task->token, NULL);
    for (hops = 0; hops <= HOPS_MAX; hops++) {
        const char *location;

        for (i = 0; i < hops; i++)
            if (strcmp(seen[i], request.url) == 0)
                return judge(visit, LOOK_WRONG, "%s answers with a redirect loop", visit->listener);
        seen[hops] = request.url;
        request.timeout = visit->listener_end - apr_time_now();
        if (request.timeout < apr_time_from_msec(1))
            return judge(visit, LOOK_UNKNOWN, "%s gave no answer in time", visit->listener);
        if (acme_http_do(http, &request, &response, pool, &err) != APR_SUCCESS)
            return judge_failure(visit, &err);
        location = acme_http_header(response, "Location");
        if (!is_redirect(response->status) || !location)
            return judge_response(visit, response);
        request.url = find_hop(origin, location, pool);
        if (!request.url) {
            base_log(BASE_LOG_DEBUG, "AC0242", name, "%s redirects the http-01 request to %.200s; the CA "
                     "goes there", visit->listener, location);
            return LOOK_RIGHT;
        }
    }
    return judge(visit, LOOK_WRONG, "%s answers with a redirect loop", visit->listener);
}

static look_t look_http(visit_t *visit)
{
    acme_http_config_t config = {
        .user_agent = USER_AGENT, .plain = 1, .connect_to = visit->listener, .no_redirects = 1,
        .no_slow_limit = 1
    };
    look_t look = LOOK_UNKNOWN;
    acme_http_t *http = NULL;
    apr_pool_t *pool = NULL;

    /* Of its own: a connection that is kept open would keep one of our own workers. */
    apr_pool_create(&pool, visit->pool);
    if (acme_http_create(&http, &config, visit->task->stop, pool) == APR_SUCCESS)
        look = follow(visit, http, pool);
    else
        judge(visit, look, "no memory for a request");
    apr_pool_destroy(pool);
    return look;
}

/* --- tls-alpn-01 -------------------------------------------------------------------- */

/* Wait for a socket. @return zero when it is to stop, or the time is over */
static int wait_socket(const visit_t *visit, int fd, short events)
{
    struct pollfd fds[2] = { { fd, events, 0 }, { base_stop_fd(visit->task->stop), POLLIN, 0 } };
    apr_interval_time_t left = visit->listener_end - apr_time_now();
    int ready = 0;

    while (left > 0 && !base_stop_is_raised(visit->task->stop)) {
        ready = poll(fds, 2, (int)apr_time_as_msec(left) + 1);
        if (ready > 0 && fds[0].revents)
            return 1;
        if (ready < 0 && errno != EINTR)
            return 0;
        left = visit->listener_end - apr_time_now();
    }
    return 0;
}

/* The address of a listener, which is never a name. @return NULL when it is no address; freeaddrinfo() it */
static struct addrinfo *read_listener(const char *listener)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    char host[ADDRESS_MAX];
    char *colon, *begin = host;

    apr_cpystrn(host, listener, sizeof(host));
    colon = strrchr(host, ':');
    if (!colon)
        return NULL;
    if (host[0] == '[' && colon > host && colon[-1] == ']') {
        colon[-1] = '\0';
        begin++;
    }
    *colon = '\0';
    return getaddrinfo(begin, colon + 1, &hints, &list) == 0 ? list : NULL;
}

/* A connection to the listener, -1 when there is none; *look says what that means. */
static int connect_listener(visit_t *visit, look_t *look)
{
    struct addrinfo *address = read_listener(visit->listener);
    socklen_t len = sizeof(int);
    int fd = -1, fault = EINVAL;

    if (address)
        fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        fault = connect(fd, address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
    if (fault == EINPROGRESS) {
        if (!wait_socket(visit, fd, POLLOUT))
            fault = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len) != 0)
            fault = errno;
    }
    if (address)
        freeaddrinfo(address);
    if (fault == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    if (fault == ECONNREFUSED)
        *look = judge(visit, LOOK_WRONG, "nothing listens at %s", visit->listener);
    else
        *look = judge(visit, LOOK_UNKNOWN, "%s cannot be connected to", visit->listener);
    return -1;
}

/* What a CA looks at after the handshake. */
static look_t judge_session(visit_t *visit, SSL *ssl)
{
    const size_t wanted_len = sizeof(CHALLENGE_TLSALPN01_PROTOCOL) - 1;
    const challenge_task_t *task = visit->task;
    const unsigned char *protocol = NULL;
    unsigned int len = 0;
    look_t look = LOOK_RIGHT;
    X509 *cert;

    SSL_get0_alpn_selected(ssl, &protocol, &len);
    if (len != wanted_len || memcmp(protocol, CHALLENGE_TLSALPN01_PROTOCOL, len) != 0)
        return judge(visit, LOOK_WRONG, "%s did not agree to " CHALLENGE_TLSALPN01_PROTOCOL ": another "
                     "module or a proxy terminates TLS there", visit->listener);
    cert = SSL_get_peer_certificate(ssl);
    if (!cert || !crypto_challenge_cert_answers(cert, task->key_authorization)
        || !crypto_bundle_covers(cert, task->name))
        look = judge(visit, LOOK_WRONG, "%s shows another certificate than the one that answers the "
                     "challenge", visit->listener);
    X509_free(cert);
    return look;
}

/* The handshake on a connection. */
static look_t shake_hands(visit_t *visit, SSL *ssl, int fd)
{
    for (;;) {
        int rv, reason;

        ERR_clear_error();
        rv = SSL_connect(ssl);
        reason = SSL_get_error(ssl, rv);
        if (rv == 1)
            return judge_session(visit, ssl);
        if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) {
            const char *text = ERR_reason_error_string(ERR_peek_error());

            return judge(visit, LOOK_WRONG, "%s did not agree to " CHALLENGE_TLSALPN01_PROTOCOL " (%s): "
                         "another module or a proxy terminates TLS there", visit->listener,
                         text ? text : "the connection was closed");
        }
        if (!wait_socket(visit, fd, reason == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT))
            return judge(visit, LOOK_UNKNOWN, "%s gave no answer in time", visit->listener);
    }
}

/* A client's half of a connection that asks as a CA does, NULL when it cannot be made. No certificate is
 * trusted or refused: the one that is wanted is signed by itself. */
static SSL *make_client(const challenge_task_t *task, SSL_CTX *ctx, int fd)
{
    static const unsigned char protocols[] = "\x0a" CHALLENGE_TLSALPN01_PROTOCOL;
    char reverse[BASE_HOSTNAME_SIZE];
    const char *sni = base_identifier_reverse(reverse, task->name) ? reverse : task->name;
    SSL *ssl = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ? SSL_new(ctx) : NULL;

    if (ssl) {
        SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        if (SSL_set_alpn_protos(ssl, protocols, sizeof(protocols) - 1) != 0
            || !SSL_set_tlsext_host_name(ssl, sni) || !SSL_set_fd(ssl, fd)) {
            SSL_free(ssl);
            ssl = NULL;
        }
    }
    return ssl;
}

static look_t look_tls(visit_t *visit)
{
    look_t look = LOOK_UNKNOWN;
    int fd = connect_listener(visit, &look);
    SSL_CTX *ctx = NULL;
    SSL *ssl = NULL;

    if (fd >= 0) {
        ctx = SSL_CTX_new(TLS_client_method());
        ssl = make_client(visit->task, ctx, fd);
        look = ssl ? shake_hands(visit, ssl, fd) : judge(visit, LOOK_UNKNOWN, "no memory for a connection");
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        close(fd);
    }
    ERR_clear_error();
    return base_stop_is_raised(visit->task->stop) ? LOOK_STOPPED : look;
}

/* --- All listeners ------------------------------------------------------------------- */

/* What one kind of challenge looks at. */
typedef struct kind_t {
    const char *id;             /* of the log line when something is not right */
    const char *type;
    const char *no_listener;    /* words */
    look_fn *look;
} kind_t;

static const kind_t http_kind = {
    "AC0240", CHALLENGE_HTTP01_TYPE,
    "this server listens on no port without TLS: http-01 fails unless another server forwards port 80",
    look_http
};

static const kind_t tls_kind = {
    "AC0241", CHALLENGE_TLSALPN01_TYPE,
    "this server listens on no port with TLS: tls-alpn-01 fails unless another one forwards port 443",
    look_tls
};

/* Ask one listener after the other until one is right. */
static apr_status_t look_around(const kind_t *kind, const challenge_task_t *task,
                                const apr_array_header_t *listeners, apr_pool_t *pool, base_error_t *err)
{
    visit_t visit = { .task = task, .deadline = apr_time_now() + CHALLENGE_SELF_CHECK_MAX, .pool = pool };
    const char *wrong = NULL, *unknown = NULL;
    look_t look;
    int i;

    if (!listeners || listeners->nelts == 0)
        wrong = kind->no_listener;
    for (i = 0; listeners && i < listeners->nelts && i < CHALLENGE_SELF_CHECK_LISTENERS_MAX; i++) {
        apr_time_t now = apr_time_now();

        if (now >= visit.deadline) {
            unknown = "there was no time for all listeners";
            break;
        }
        visit.listener = APR_ARRAY_IDX(listeners, i, const char *);
        visit.listener_end = now + LISTENER_MAX < visit.deadline ? now + LISTENER_MAX : visit.deadline;
        look = kind->look(&visit);
        if (look == LOOK_STOPPED)
            return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
        if (look == LOOK_RIGHT) {
            base_log(BASE_LOG_DEBUG, "AC0242", task->name, "nothing is wrong with the answer to %s at %s; "
                     "the CA is asked", kind->type, visit.listener);
            return APR_SUCCESS;
        }
        if (look == LOOK_WRONG)
            wrong = wrong ? wrong : visit.words;
        else
            unknown = visit.words;
    }
    /* One that gave no answer might have been right. */
    base_log(unknown ? BASE_LOG_INFO : BASE_LOG_WARNING, kind->id, task->name,
             "the answer to %s could not be seen by this server itself: %s; the CA is asked all the same",
             kind->type, wrong ? wrong : unknown);
    return APR_SUCCESS;
}

apr_status_t challenge_self_check_http(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    return task->listeners ? look_around(&http_kind, task, task->listeners->http, pool, err) : APR_SUCCESS;
}

apr_status_t challenge_self_check_tls(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    return task->listeners ? look_around(&tls_kind, task, task->listeners->https, pool, err) : APR_SUCCESS;
}
