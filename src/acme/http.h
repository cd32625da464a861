/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/http.h
 * HTTPS to one CA, and HTTP to one endpoint of the site's own (manager/ask.h); the only file that
 * knows libcurl. Blocking, bounded in time and size, ended at once when the process is asked to
 * stop. Any number of threads may use one acme_http_t; each request borrows a handle with its open
 * connections.
 */
#ifndef ACME_HTTP_H
#define ACME_HTTP_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "base/error.h"
#include "base/stop.h"

#define ACME_HTTP_CONNECT_TIMEOUT apr_time_from_sec(10)
#define ACME_HTTP_TIMEOUT apr_time_from_sec(30)         /* of one whole request */
#define ACME_HTTP_SLOW_BYTES 30                         /* bytes a second ... */
#define ACME_HTTP_SLOW_SECONDS 15                       /* ... for this long: given up */
#define ACME_HTTP_REDIRECTS_MAX 10                      /* of a GET; a POST follows none */
#define ACME_HTTP_URL_MAX 4096
#define ACME_HTTP_JSON_MAX (256 * 1024)                 /* bytes of a body */
#define ACME_HTTP_CHAIN_MAX (1024 * 1024)
#define ACME_HTTP_HEADERS_MAX 100                       /* header lines of an answer */
#define ACME_HTTP_STOP_PATIENCE apr_time_from_msec(400)  /* for a POST under way, after a stop */
#define ACME_HTTP_IDLE_MAX 16                           /* idle handles kept */

typedef struct acme_http_t acme_http_t;

typedef struct acme_http_config_t {
    const char *user_agent;     /* RFC 8555 section 6.1: a MUST */
    const char *cafile;         /* PEM trust for the server's own TLS; NULL: the system's */
    const char *proxy;          /* URL; NULL or "": none. The environment is ignored */
    int plain;                  /* http URLs too; 0: only https ones, also after a redirect */
    const char *unix_path;      /* connect to this socket instead of the URL's host; NULL: no */
    const char *connect_to;     /* "127.0.0.1:80", "[::1]:80": connect there, wherever the URL points (the
                                 * request is the same); NULL: no */
    int no_redirects;           /* a GET follows none: what says "elsewhere" is the answer */
    int no_slow_limit;          /* only the timeout counts, not ACME_HTTP_SLOW_BYTES besides */
} acme_http_config_t;

/** One answer; all of it in the request's pool, strings never NULL unless said. */
typedef struct acme_http_response_t {
    int status;
    const char *url;            /* that answered, after redirects */
    char *body;                 /* NUL-terminated; may hold anything */
    apr_size_t len;
    apr_table_t *headers;       /* case-insensitive; repeated ones added, not merged */
} acme_http_response_t;

/** Once in a process that will make requests (never in the parent: the module and
 * libcurl are unloaded at each restart), before its threads start. Idempotent.
 * SIGPIPE must be ignored by the process (httpd does): libcurl is told to leave signals alone. */
apr_status_t acme_http_init(void);

/** "7.88.1": of the libcurl in use, for the User-Agent. */
const char *acme_http_library_version(void);

/** Make one; handles are closed with the pool, when no thread uses it any more.
 * @param stop may be NULL; ends every request with CANCELLED when raised, but a POST that has begun
 *        may still be answered within ACME_HTTP_STOP_PATIENCE */
apr_status_t acme_http_create(acme_http_t **http, const acme_http_config_t *config,
                              const base_stop_t *stop, apr_pool_t *pool);

/** Non-zero when the URL is https, has a host and no user, only visible ASCII, and is not
 * longer than allowed. NULL is not usable. */
int acme_http_url_is_usable(const char *url);

/** The same, but http will do too: for an acme_http_t that is `plain`. */
int acme_http_url_is_usable_plain(const char *url);

typedef struct acme_http_request_t {
    const char *method;         /* "GET", "HEAD" or "POST" */
    const char *url;
    const char *accept;         /* media type, NULL for none */
    const char *body;           /* JWS text of a POST (application/jose+json) */
    apr_size_t body_max;        /* of the answer, ACME_HTTP_JSON_MAX or _CHAIN_MAX */
    apr_interval_time_t timeout;    /* 0: ACME_HTTP_TIMEOUT */
} acme_http_request_t;

/**
 * Do one request. Any complete answer is a success, whatever its status.
 * Errors: CA_DOWN with libcurl's words (no connection, TLS, timeout, too large),
 * LOCAL (memory, a cafile that cannot be read), CANCELLED.
 */
apr_status_t acme_http_do(acme_http_t *http, const acme_http_request_t *request,
                          acme_http_response_t **response, apr_pool_t *pool,
                          base_error_t *err);

/** A header's value or NULL. */
const char *acme_http_header(const acme_http_response_t *response, const char *name);

/** Resolve a possibly relative reference against the answer's URL; NULL when the
 * result is not usable. In the pool. */
const char *acme_http_resolve(const acme_http_response_t *response, const char *reference,
                              apr_pool_t *pool);

/** The target of the first Link header with this rel (RFC 8288), resolved, or NULL. */
const char *acme_http_link(const acme_http_response_t *response, const char *rel,
                           apr_pool_t *pool);

/** The targets of up to max Link headers with this rel, in their order, resolved; those that are not usable
 * are left out. @return array of const char *, may be empty */
apr_array_header_t *acme_http_links(const acme_http_response_t *response, const char *rel, int max,
                                    apr_pool_t *pool);

/**
 * Retry-After (RFC 9110 section 10.2.3) as a moment on our clock: seconds, or a date measured
 * against the answer's own Date header. Negative, unparsable and absent: 0. More
 * than a year is taken as a year.
 */
apr_time_t acme_http_retry_after(const acme_http_response_t *response, apr_time_t now);

#endif
