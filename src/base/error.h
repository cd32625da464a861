/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/error.h
 * One failure, as a plain value: what happened, in whose words, and whether
 * trying again can help. The same value feeds the log, the scheduler and the
 * records in the cache. Any thread; nothing here blocks or allocates.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <apr_errno.h>
#include <apr_time.h>

#define BASE_ERROR_TYPE_MAX 96      /* bytes with the NUL */
#define BASE_ERROR_DETAIL_MAX 512   /* bytes with the NUL */

/** Who must act, and so what the scheduler does next. */
typedef enum {
    BASE_ERROR_NONE,
    BASE_ERROR_LOCAL,       /* this machine: memory, disk, a key that cannot be read */
    BASE_ERROR_CANCELLED,   /* this child is asked to stop; the work goes on elsewhere */
    BASE_ERROR_BUSY,        /* another process holds the lock */
    BASE_ERROR_CA_DOWN,     /* no usable answer from the CA: no failure of the name */
    BASE_ERROR_WAIT,        /* the CA said "later": 429, or 503 with Retry-After */
    BASE_ERROR_VALIDATION,  /* the CA could not see the name's challenge, or gave the order up */
    BASE_ERROR_GONE,        /* the CA does not know the order or account any more */
    BASE_ERROR_OPERATOR,    /* a human has to change something */
    BASE_ERROR_REFUSED      /* no policy allows the name: nothing was asked of the CA */
} base_error_kind_t;

typedef struct base_error_t {
    base_error_kind_t kind;
    apr_status_t status;        /* never APR_SUCCESS when kind is not NONE */
    int http_status;            /* of the CA's answer, 0 without one */
    apr_time_t retry_at;        /* the CA's Retry-After as a moment, 0 without one */
    char type[BASE_ERROR_TYPE_MAX]; /* RFC 8555 6.7 type without "urn:ietf:params:acme:error:" */
    char detail[BASE_ERROR_DETAIL_MAX]; /* for people; control characters replaced */
} base_error_t;

/** Make it "no error". */
void base_error_clear(base_error_t *err);

/**
 * Fill in all of it but http_status, retry_at and type, which become 0 and "".
 * @param err may be NULL: then only the status is passed through
 * @param fmt printf format of the detail; what does not fit is cut
 * @return status, so that a failing function can end with it
 */
apr_status_t base_error_set(base_error_t *err, base_error_kind_t kind, apr_status_t status,
                            const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** As base_error_set() with kind LOCAL; ": " and the first text of OpenSSL's error
 * queue of this thread are appended, and the queue is emptied. */
apr_status_t base_error_set_openssl(base_error_t *err, const char *what);

/** Copy text into a buffer of size bytes: control characters and bytes that are
 * not UTF-8 become '?', what does not fit is cut; always ends with a NUL. */
void base_error_copy_text(char *to, size_t size, const char *from);

#endif
