/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_date.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <curl/curl.h>

#define HEADER_BYTES_MAX (256 * 1024)   /* header lines of a request, all its redirects together */
#define BODY_FIRST 4096                 /* bytes a body buffer begins with */
#define CONNECTIONS_MAX 4L              /* open connections of one handle */
#define POLL_STEP_MS 1000               /* longest sleep inside curl_multi_poll() */
#define STOPPING_STEP_MS 50             /* the same, once asked to stop */
#define URL_SHOWN_MAX 200               /* bytes of a URL in messages */
#define YEAR_SECONDS (365 * 24 * 3600)
#define YEAR_DIGITS 9                   /* more digits than this are more than a year */

/* An easy handle with a multi handle of its own: the multi holds the open connections,
 * and driving the transfer through it lets the stop descriptor wake us up. */
typedef struct handle_t {
    struct handle_t *next;
    CURLM *multi;
    CURL *easy;
    char error[CURL_ERROR_SIZE];
} handle_t;

struct acme_http_t {
    const char *user_agent;
    const char *cafile;
    const char *proxy;
    int plain;
    const char *unix_path;
    struct curl_slist *connect_to;      /* one line, NULL: none */
    int no_redirects;
    int no_slow_limit;
    const base_stop_t *stop;
    apr_thread_mutex_t *mutex;          /* guards idle and idle_count, nothing else */
    handle_t *idle;
    int idle_count;
};

/* What the callbacks of one transfer fill in. */
typedef struct exchange_t {
    apr_pool_t *pool;
    apr_table_t *headers;
    char *body;
    apr_size_t len;
    apr_size_t room;
    apr_size_t body_max;
    apr_size_t header_bytes;
    int header_lines;
    const char *rest;                   /* of the request's body, not sent yet; NULL: no body */
    int begun;                          /* some of it was */
    const char *fault;                  /* why a callback ended the transfer, NULL: it did not */
} exchange_t;

typedef enum {
    RUN_DONE,
    RUN_CANCELLED,
    RUN_BROKEN                          /* the multi handle itself failed */
} run_t;

apr_status_t acme_http_init(void)
{
    static int done;

    if (!done) {
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
            return APR_EGENERAL;
        }
        done = 1;
    }
    return APR_SUCCESS;
}

const char *acme_http_library_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

static void free_handle(handle_t *handle)
{
    if (handle != NULL) {
        curl_easy_cleanup(handle->easy);
        if (handle->multi != NULL) {
            curl_multi_cleanup(handle->multi);
        }
        free(handle);
    }
}

static apr_status_t close_idle(void *data)
{
    acme_http_t *http = data;

    while (http->idle != NULL) {
        handle_t *handle = http->idle;

        http->idle = handle->next;
        free_handle(handle);
    }
    http->idle_count = 0;
    curl_slist_free_all(http->connect_to);
    http->connect_to = NULL;
    return APR_SUCCESS;
}

apr_status_t acme_http_create(acme_http_t **http, const acme_http_config_t *config,
                              const base_stop_t *stop, apr_pool_t *pool)
{
    acme_http_t *h = apr_pcalloc(pool, sizeof(*h));
    apr_status_t st = apr_thread_mutex_create(&h->mutex, APR_THREAD_MUTEX_DEFAULT, pool);

    if (st != APR_SUCCESS) {
        return st;
    }
    h->user_agent = apr_pstrdup(pool, config->user_agent);
    h->cafile = apr_pstrdup(pool, config->cafile);
    h->proxy = apr_pstrdup(pool, config->proxy != NULL ? config->proxy : "");
    h->plain = config->plain;
    h->unix_path = apr_pstrdup(pool, config->unix_path);
    h->no_redirects = config->no_redirects;
    h->no_slow_limit = config->no_slow_limit;
    h->stop = stop;
    if (config->connect_to != NULL) {
        /* libcurl's HOST:PORT:TO: empty ones are all hosts and ports. */
        h->connect_to = curl_slist_append(NULL, apr_pstrcat(pool, "::", config->connect_to, NULL));
        if (h->connect_to == NULL) {
            return APR_ENOMEM;
        }
    }
    apr_pool_cleanup_register(pool, h, close_idle, apr_pool_cleanup_null);
    *http = h;
    return APR_SUCCESS;
}

static handle_t *borrow_handle(acme_http_t *http)
{
    handle_t *handle;

    apr_thread_mutex_lock(http->mutex);
    handle = http->idle;
    if (handle != NULL) {
        http->idle = handle->next;
        http->idle_count--;
    }
    apr_thread_mutex_unlock(http->mutex);
    if (handle != NULL) {
        return handle;
    }
    handle = calloc(1, sizeof(*handle));
    if (handle == NULL) {
        return NULL;
    }
    handle->easy = curl_easy_init();
    handle->multi = curl_multi_init();
    if (handle->easy == NULL || handle->multi == NULL) {
        free_handle(handle);
        return NULL;
    }
    curl_multi_setopt(handle->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX);
    return handle;
}

static void give_back_handle(acme_http_t *http, handle_t *handle)
{
    /* The options point into the finished request's pool. */
    curl_easy_reset(handle->easy);
    apr_thread_mutex_lock(http->mutex);
    if (http->idle_count < ACME_HTTP_IDLE_MAX) {
        handle->next = http->idle;
        http->idle = handle;
        http->idle_count++;
        handle = NULL;
    }
    apr_thread_mutex_unlock(http->mutex);
    free_handle(handle);
}

static size_t refuse(exchange_t *exchange, const char *fault)
{
    exchange->fault = fault;
    return 0;
}

/* libcurl's write callback: returning less than was offered ends the transfer. */
static size_t take_body(char *data, size_t size, size_t count, void *baton)
{
    exchange_t *ex = baton;
    size_t n = size * count;

    if (n > ex->body_max - ex->len) {
        return refuse(ex, "the answer is larger than allowed");
    }
    if (ex->len + n + 1 > ex->room) {
        apr_size_t room = ex->room == 0 ? BODY_FIRST : ex->room * 2;
        char *body;

        while (room < ex->len + n + 1) {
            room *= 2;
        }
        body = apr_palloc(ex->pool, room);
        if (ex->len > 0) {
            memcpy(body, ex->body, ex->len);
        }
        ex->body = body;
        ex->room = room;
    }
    memcpy(ex->body + ex->len, data, n);
    ex->len += n;
    return n;
}

/* libcurl's read callback: the next piece of the request's body. */
static size_t give_body(char *data, size_t size, size_t count, void *baton)
{
    exchange_t *ex = baton;
    size_t n = strlen(ex->rest);

    if (n > size * count) {
        n = size * count;
    }
    memcpy(data, ex->rest, n);
    ex->rest += n;
    ex->begun = 1;
    return n;
}

/* libcurl's seek callback. It sends a request again, by itself, when a connection it had kept ends
 * without an answer; but a POST that has left may have been obeyed, and whoever asked for it has to look
 * first. (With the body as a string libcurl would not ask.) */
static int rewind_body(void *baton, curl_off_t offset, int origin)
{
    exchange_t *ex = baton;

    if (!ex->begun && origin == SEEK_SET && offset == 0) {
        return CURL_SEEKFUNC_OK;
    }
    ex->fault = "the connection ended without an answer";
    return CURL_SEEKFUNC_FAIL;
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* libcurl's header callback, called with one line at a time, of every answer of the transfer:
 * 100 (Continue), redirects and the final one. Each status line begins anew. */
static size_t take_header(char *data, size_t size, size_t count, void *baton)
{
    exchange_t *ex = baton;
    size_t n = size * count, name_len, begin, end = n;
    const char *colon;

    ex->header_bytes += n;
    if (ex->header_bytes > HEADER_BYTES_MAX) {
        return refuse(ex, "the headers of the answer are larger than allowed");
    }
    if (n >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        apr_table_clear(ex->headers);
        ex->header_lines = 0;
        ex->len = 0;
        return n;
    }
    if (++ex->header_lines > ACME_HTTP_HEADERS_MAX) {
        return refuse(ex, "the answer has more header lines than allowed");
    }
    colon = memchr(data, ':', n);
    if (colon == NULL || colon == data || is_blank(data[0])) {
        return n;
    }
    name_len = (size_t)(colon - data);
    begin = name_len + 1;
    while (begin < n && is_blank(data[begin])) {
        begin++;
    }
    while (end > begin && is_blank(data[end - 1])) {
        end--;
    }
    apr_table_addn(ex->headers, apr_pstrmemdup(ex->pool, data, name_len),
                   apr_pstrmemdup(ex->pool, data + begin, end - begin));
    return n;
}

/* Who must act on which of libcurl's errors; what is not listed is the CA's or the network's. */
static const struct {
    CURLcode code;
    base_error_kind_t kind;
    apr_status_t status;
} errors[] = {
    { CURLE_OUT_OF_MEMORY, BASE_ERROR_LOCAL, APR_ENOMEM },
    { CURLE_FAILED_INIT, BASE_ERROR_LOCAL, APR_EGENERAL },
    { CURLE_SSL_CACERT_BADFILE, BASE_ERROR_LOCAL, APR_EGENERAL },
    { CURLE_OPERATION_TIMEDOUT, BASE_ERROR_CA_DOWN, APR_TIMEUP },
    { CURLE_COULDNT_CONNECT, BASE_ERROR_CA_DOWN, APR_ECONNREFUSED }
};

static apr_status_t report(const acme_http_t *http, const handle_t *handle, const exchange_t *exchange,
                           CURLcode code, const acme_http_request_t *request, base_error_t *err)
{
    base_error_kind_t kind = BASE_ERROR_CA_DOWN;
    apr_status_t st = APR_EGENERAL;
    size_t shown = http->plain ? strcspn(request->url, "?") : strlen(request->url);
    int url_len = shown < URL_SHOWN_MAX ? (int)shown : URL_SHOWN_MAX;
    const char *words = handle->error[0] != '\0' ? handle->error : curl_easy_strerror(code);
    size_t i;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].code == code) {
            kind = errors[i].kind;
            st = errors[i].status;
        }
    }
    if (exchange->fault != NULL) {
        words = exchange->fault;
    }
    /* The query of an endpoint may hold its secret; the errors of this are logged. */
    return base_error_set(err, kind, st, "%s %.*s: %s", request->method, url_len, request->url, words);
}

static void set_protocols(CURL *easy, int plain)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    const char *protocols = plain ? "http,https" : "https";

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
#else
    long protocols = plain ? CURLPROTO_HTTP | CURLPROTO_HTTPS : CURLPROTO_HTTPS;

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, protocols);
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, protocols);
#endif
}

static void set_connection(const acme_http_t *http, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    set_protocols(easy, http->plain);
    /* Empty strings, not NULL: those would mean "ask the environment". */
    curl_easy_setopt(easy, CURLOPT_PROXY, http->proxy);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (http->unix_path != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, http->unix_path);
    }
    if (http->connect_to != NULL) {
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, http->connect_to);
    }
    if (http->cafile != NULL) {
        /* This file alone is trusted, not the system's directory besides. */
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->cafile);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)apr_time_as_msec(ACME_HTTP_CONNECT_TIMEOUT));
    /* It would also end a request whose answer has not begun. */
    if (!http->no_slow_limit) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)ACME_HTTP_SLOW_BYTES);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)ACME_HTTP_SLOW_SECONDS);
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Without it, giving up on a name that is still being looked up joins the resolver's
     * thread: a hanging DNS server would outlast our time-outs and a request to stop. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
}

static void set_method(CURL *easy, exchange_t *exchange, const acme_http_request_t *request,
                       int no_redirects)
{
    if (strcmp(request->method, "POST") == 0) {
        exchange->rest = request->body != NULL ? request->body : "";
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(exchange->rest));
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(easy, CURLOPT_READDATA, exchange);
        curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_body);
        curl_easy_setopt(easy, CURLOPT_SEEKDATA, exchange);
    }
    else if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    else {
        /* Only here: a POST is signed for one URL (RFC 8555 section 6.4). */
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, no_redirects ? 0L : 1L);
        curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)ACME_HTTP_REDIRECTS_MAX);
    }
}

static void set_request(const acme_http_t *http, handle_t *handle, exchange_t *exchange,
                        struct curl_slist *headers, const acme_http_request_t *request)
{
    CURL *easy = handle->easy;
    apr_interval_time_t timeout = request->timeout > 0 ? request->timeout : ACME_HTTP_TIMEOUT;

    handle->error[0] = '\0';
    set_connection(http, easy);
    set_method(easy, exchange, request, http->no_redirects);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    /* The path on the wire must be the one in the JWS. */
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, http->user_agent);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)apr_time_as_msec(timeout));
    /* What may take longer may also begin later; libcurl counts the time before the answer too. */
    if (!http->no_slow_limit && timeout > ACME_HTTP_TIMEOUT) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)apr_time_sec(timeout / 2));
    }
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)exchange->body_max);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, handle->error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
}

/* NULL when memory is short. */
static struct curl_slist *make_headers(const acme_http_request_t *request, apr_pool_t *pool)
{
    const char *lines[4];
    struct curl_slist *list = NULL;
    int n = 0, i;

    lines[n++] = "Accept-Language: en";
    lines[n++] = "Expect:";
    if (request->accept != NULL) {
        lines[n++] = apr_pstrcat(pool, "Accept: ", request->accept, NULL);
    }
    if (strcmp(request->method, "POST") == 0) {
        lines[n++] = "Content-Type: application/jose+json";
    }
    for (i = 0; i < n; i++) {
        struct curl_slist *longer = curl_slist_append(list, lines[i]);

        if (longer == NULL) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

/* Drive the transfer to its end, or to ours: one that has begun may still end within the
 * patience (microseconds) after a stop. Ends by libcurl's own time-outs. */
static run_t drive(handle_t *handle, const base_stop_t *stop, apr_interval_time_t patience,
                   CURLcode *code)
{
    struct curl_waitfd wait = { 0 };
    unsigned int waits = stop != NULL ? 1 : 0;
    int running = 1, left, step = POLL_STEP_MS;
    apr_time_t end = 0;
    CURLMsg *message;

    if (base_stop_is_raised(stop)) {
        return RUN_CANCELLED;
    }
    wait.fd = stop != NULL ? base_stop_fd(stop) : -1;
    wait.events = CURL_WAIT_POLLIN;
    while (running) {
        if (end == 0 && base_stop_is_raised(stop)) {
            end = apr_time_now() + patience;
            step = STOPPING_STEP_MS;
            waits = 0;          /* it stays readable */
        }
        if (end != 0 && apr_time_now() >= end) {
            return RUN_CANCELLED;
        }
        if (curl_multi_perform(handle->multi, &running) != CURLM_OK) {
            return RUN_BROKEN;
        }
        if (running
            && curl_multi_poll(handle->multi, waits ? &wait : NULL, waits, step, NULL)
               != CURLM_OK) {
            return RUN_BROKEN;
        }
    }
    while ((message = curl_multi_info_read(handle->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            *code = message->data.result;
            return RUN_DONE;
        }
    }
    return RUN_BROKEN;
}

/* A handle whose transfer was cut off. Before 7.87 closing it would wait for a name
 * that is still being looked up; the process is about to end then, so it is left open. */
static void abandon_handle(handle_t *handle)
{
#if LIBCURL_VERSION_NUM < 0x075700
    double looked_up = 0;

    curl_easy_getinfo(handle->easy, CURLINFO_NAMELOOKUP_TIME, &looked_up);
    if (looked_up <= 0) {
        return;
    }
#endif
    curl_multi_remove_handle(handle->multi, handle->easy);
    free_handle(handle);
}

static acme_http_response_t *make_response(handle_t *handle, exchange_t *exchange,
                                           const acme_http_request_t *request)
{
    acme_http_response_t *response = apr_pcalloc(exchange->pool, sizeof(*response));
    const char *url = NULL;
    long status = 0;

    curl_easy_getinfo(handle->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(handle->easy, CURLINFO_EFFECTIVE_URL, &url);
    response->status = (int)status;
    /* Without a redirect it is our own string, not libcurl's spelling of it. */
    if (url == NULL || strcmp(request->method, "GET") != 0) {
        url = request->url;
    }
    response->url = apr_pstrdup(exchange->pool, url);
    if (exchange->body == NULL) {
        exchange->body = apr_palloc(exchange->pool, 1);
    }
    exchange->body[exchange->len] = '\0';
    response->body = exchange->body;
    response->len = exchange->len;
    response->headers = exchange->headers;
    return response;
}

static int is_usable_here(const acme_http_t *http, const char *url)
{
    return http->plain ? acme_http_url_is_usable_plain(url) : acme_http_url_is_usable(url);
}

apr_status_t acme_http_do(acme_http_t *http, const acme_http_request_t *request,
                          acme_http_response_t **response, apr_pool_t *pool,
                          base_error_t *err)
{
    exchange_t exchange = { 0 };
    handle_t *handle = NULL;
    struct curl_slist *headers = NULL;
    CURLcode code = CURLE_OK;
    apr_status_t st = APR_SUCCESS;
    run_t run;

    *response = NULL;
    if (!is_usable_here(http, request->url)) {
        return base_error_set(err, BASE_ERROR_CA_DOWN, APR_EINVAL,
                              "\"%.200s\" is not a usable http%s URL",
                              request->url != NULL ? request->url : "", http->plain ? "" : "s");
    }
    exchange.pool = pool;
    exchange.headers = apr_table_make(pool, 16);
    exchange.body_max = request->body_max > 0 ? request->body_max : ACME_HTTP_JSON_MAX;
    headers = make_headers(request, pool);
    handle = borrow_handle(http);
    if (headers == NULL || handle == NULL) {
        st = base_error_set(err, BASE_ERROR_LOCAL, APR_ENOMEM, "no memory for a request");
        goto leave;
    }
    set_request(http, handle, &exchange, headers, request);
    if (curl_multi_add_handle(handle->multi, handle->easy) != CURLM_OK) {
        st = base_error_set(err, BASE_ERROR_LOCAL, APR_ENOMEM, "no memory for a request");
        goto leave;
    }
    /* An order that the CA has made and nobody knows of would be lost. */
    run = drive(handle, http->stop,
                strcmp(request->method, "POST") == 0 ? ACME_HTTP_STOP_PATIENCE : 0, &code);
    if (run != RUN_DONE) {
        st = run == RUN_CANCELLED
             ? base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop")
             : base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "libcurl failed to wait");
        abandon_handle(handle);
        handle = NULL;
        goto leave;
    }
    if (code != CURLE_OK) {
        st = report(http, handle, &exchange, code, request, err);
    }
    else {
        *response = make_response(handle, &exchange, request);
    }
    curl_multi_remove_handle(handle->multi, handle->easy);

leave:
    if (handle != NULL) {
        give_back_handle(http, handle);
    }
    curl_slist_free_all(headers);
    return st;
}

const char *acme_http_header(const acme_http_response_t *response, const char *name)
{
    return apr_table_get(response->headers, name);
}

/* Non-zero for 1 to ACME_HTTP_URL_MAX visible ASCII characters. */
static int is_visible(const char *s)
{
    size_t n = 0;

    while (s[n] != '\0') {
        if (s[n] <= ' ' || s[n] > '~' || ++n > ACME_HTTP_URL_MAX) {
            return 0;
        }
    }
    return n > 0;
}

/* @param scheme with "://"; what the URL must begin with */
static int is_usable(const char *url, const char *scheme)
{
    CURLU *parts = NULL;
    char *host = NULL;
    int usable = 0;
    size_t len = strlen(scheme);

    /* libcurl would take "https:///name" for "https://name". */
    if (url == NULL || strncasecmp(url, scheme, len) != 0 || url[len] == '/' || !is_visible(url)) {
        return 0;
    }
    parts = curl_url();
    if (parts != NULL && curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK
        && curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        usable = host[0] != '\0';
    }
    curl_free(host);
    curl_url_cleanup(parts);
    return usable;
}

int acme_http_url_is_usable(const char *url)
{
    return is_usable(url, "https://");
}

int acme_http_url_is_usable_plain(const char *url)
{
    return is_usable(url, "http://") || is_usable(url, "https://");
}

/* Non-zero when the reference begins with a scheme (RFC 3986 section 3.1). */
static int has_scheme(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

    return n > 0 && s[n] == ':';
}

const char *acme_http_resolve(const acme_http_response_t *response, const char *reference,
                              apr_pool_t *pool)
{
    CURLU *parts = NULL;
    char *url = NULL;
    const char *result = NULL;

    if (reference == NULL || !is_visible(reference)) {
        return NULL;
    }
    if (has_scheme(reference)) {
        /* Kept to the letter: it is what the CA will find in the JWS. */
        return acme_http_url_is_usable(reference) ? apr_pstrdup(pool, reference) : NULL;
    }
    parts = curl_url();
    if (parts != NULL && curl_url_set(parts, CURLUPART_URL, response->url, 0) == CURLUE_OK
        && curl_url_set(parts, CURLUPART_URL, reference, 0) == CURLUE_OK
        && curl_url_get(parts, CURLUPART_URL, &url, 0) == CURLUE_OK
        && acme_http_url_is_usable(url)) {
        result = apr_pstrdup(pool, url);
    }
    curl_free(url);
    curl_url_cleanup(parts);
    return result;
}

/* One link value of RFC 8288 section 3, pointing into the header. */
typedef struct link_t {
    const char *target;
    size_t target_len;
    const char *rel;                    /* NULL without one */
    size_t rel_len;
} link_t;

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* Read name, "=" and token or quoted string of one parameter; p stands after the ";". */
static const char *read_parameter(const char *p, link_t *link)
{
    const char *name = skip_blanks(p), *value = "";
    size_t name_len = strcspn(name, "=;, \t"), len = 0;

    p = skip_blanks(name + name_len);
    if (*p == '=') {
        value = skip_blanks(p + 1);
        if (*value == '"') {
            p = ++value;
            while (*p != '\0' && *p != '"') {
                p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
            }
            len = (size_t)(p - value);
            p += *p == '"';
        }
        else {
            len = strcspn(value, ";, \t");
            p = value + len;
        }
    }
    /* Only the first rel counts (RFC 8288 section 3.3). */
    if (link->rel == NULL && name_len == 3 && strncasecmp(name, "rel", 3) == 0) {
        link->rel = value;
        link->rel_len = len;
    }
    return p;
}

/* @return what follows the link value, NULL when there is none at p */
static const char *read_link(const char *p, link_t *link)
{
    const char *end;

    memset(link, 0, sizeof(*link));
    p += strspn(p, " \t,");
    if (*p != '<' || (end = strchr(p, '>')) == NULL) {
        return NULL;
    }
    link->target = p + 1;
    link->target_len = (size_t)(end - link->target);
    p = skip_blanks(end + 1);
    while (*p == ';') {
        p = skip_blanks(read_parameter(p + 1, link));
    }
    return p + strcspn(p, ",");
}

/* Non-zero when the blank-separated list holds the relation, in any case. */
static int has_relation(const link_t *link, const char *rel)
{
    const char *p = link->rel, *end = p + link->rel_len;
    size_t len = strlen(rel);

    while (p < end) {
        const char *word = p;

        while (p < end && !is_blank(*p)) {
            p++;
        }
        if ((size_t)(p - word) == len && strncasecmp(word, rel, len) == 0) {
            return 1;
        }
        while (p < end && is_blank(*p)) {
            p++;
        }
    }
    return 0;
}

typedef struct link_search_t {
    const acme_http_response_t *response;
    const char *rel;
    int max;
    int count;                          /* with this rel, usable or not */
    apr_array_header_t *urls;           /* of const char * */
    apr_pool_t *pool;
} link_search_t;

/* apr_table_do() goes on while this returns non-zero. */
static int search_header(void *baton, const char *name, const char *value)
{
    link_search_t *search = baton;
    link_t link;

    (void)name;
    while (search->count < search->max && (value = read_link(value, &link)) != NULL) {
        if (link.rel != NULL && has_relation(&link, search->rel)) {
            const char *url = acme_http_resolve(search->response,
                                                apr_pstrmemdup(search->pool, link.target,
                                                               link.target_len),
                                                search->pool);

            search->count++;
            if (url != NULL) {
                APR_ARRAY_PUSH(search->urls, const char *) = url;
            }
        }
    }
    return search->count < search->max;
}

apr_array_header_t *acme_http_links(const acme_http_response_t *response, const char *rel, int max,
                                    apr_pool_t *pool)
{
    link_search_t search = { response, rel, max, 0, apr_array_make(pool, 1, sizeof(const char *)), pool };

    apr_table_do(search_header, &search, response->headers, "Link", NULL);
    return search.urls;
}

const char *acme_http_link(const acme_http_response_t *response, const char *rel,
                           apr_pool_t *pool)
{
    apr_array_header_t *urls = acme_http_links(response, rel, 1, pool);

    return urls->nelts > 0 ? APR_ARRAY_IDX(urls, 0, const char *) : NULL;
}

/* @return seconds, -1 when the text is none; a year at most */
static apr_int64_t read_seconds(const char *value)
{
    size_t digits = strspn(value, "0123456789");
    apr_int64_t seconds;

    if (digits == 0 || value[digits + strspn(value + digits, " \t")] != '\0') {
        return -1;
    }
    value += strspn(value, "0");
    if (strspn(value, "0123456789") > YEAR_DIGITS) {
        return YEAR_SECONDS;
    }
    seconds = apr_atoi64(value);
    return seconds < YEAR_SECONDS ? seconds : YEAR_SECONDS;
}

apr_time_t acme_http_retry_after(const acme_http_response_t *response, apr_time_t now)
{
    const char *value = acme_http_header(response, "Retry-After");
    const char *date = acme_http_header(response, "Date");
    apr_time_t until, theirs;
    apr_int64_t seconds;

    if (value == NULL) {
        return 0;
    }
    seconds = read_seconds(value);
    if (seconds < 0) {
        until = apr_date_parse_http(value);
        theirs = date != NULL ? apr_date_parse_http(date) : APR_DATE_BAD;
        if (theirs == APR_DATE_BAD) {
            theirs = now;
        }
        if (until == APR_DATE_BAD || until < theirs) {
            return 0;
        }
        seconds = apr_time_sec(until - theirs);
        if (seconds > YEAR_SECONDS) {
            seconds = YEAR_SECONDS;
        }
    }
    return now + apr_time_from_sec(seconds);
}
