/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/log.h
 * The one seam through which everything outside src/httpd logs.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <apr_atomic.h>

/** Levels: the numbers of syslog and of httpd's APLOG_*. */
#define BASE_LOG_CRIT 2
#define BASE_LOG_ERR 3
#define BASE_LOG_WARNING 4
#define BASE_LOG_NOTICE 5
#define BASE_LOG_INFO 6
#define BASE_LOG_DEBUG 7

#define BASE_LOG_LINE_MAX 1024  /* bytes with the NUL; longer lines are cut */

/** Receives one complete line without a newline. Called from any thread; must
 * not call base_log() itself. */
typedef void base_log_fn(void *baton, int level, const char *line);

/** Install the receiver; NULL makes base_log() silent. Call before other
 * threads start. */
void base_log_set(base_log_fn *fn, void *baton);

/**
 * Log "ID: autocert: NAME: text", or without NAME when name is NULL. The text
 * ends with what happens next. Any thread; blocks as the receiver does.
 * @param id stable id listed in docs/operations.md, "AC0110"
 */
void base_log(int level, const char *id, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** Lets one line through in a time; for what strangers can cause. Zeros are a new one. */
typedef struct base_log_limit_t {
    volatile apr_uint32_t second;       /* of the last line */
    volatile apr_uint32_t held_back;    /* since */
} base_log_limit_t;

#define BASE_LOG_OTHERS_SIZE 64     /* bytes with the NUL */

/** May a line be written now? Any thread, a few atomic operations; never blocks.
 * @param every seconds between two lines
 * @param others filled with " (and N more like this)" for those held back since the last line, or ""
 * @return zero when not: it is counted */
int base_log_limit(base_log_limit_t *limit, long long unix_seconds, unsigned int every,
                   char others[BASE_LOG_OTHERS_SIZE]);

/** The date of a moment as "2026-12-01" (UTC) for people. @return buf */
const char *base_log_date(char buf[16], long long unix_seconds);

/** A moment as "2026-12-01 14:05 UTC", only "14:05" within 20 hours of now. @return buf */
const char *base_log_moment(char buf[32], long long unix_seconds, long long now_seconds);

#endif
