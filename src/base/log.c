/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/identifier.h"

#define SCRATCH_SIZE (BASE_LOG_LINE_MAX + 4)    /* see the same in error.c */
#define NEAR_SECONDS (20LL * 3600)              /* a time of day alone is unmistakable */

static base_log_fn *receiver;
static void *receiver_baton;

void base_log_set(base_log_fn *fn, void *baton)
{
    receiver = fn;
    receiver_baton = baton;
}

/* A name with A-labels is shown with the letters they stand for, too. */
static int begin_line(char scratch[SCRATCH_SIZE], const char *id, const char *name)
{
    char unicode[BASE_IDENTIFIER_UNICODE_SIZE];

    if (!name)
        return snprintf(scratch, SCRATCH_SIZE, "%s: autocert: ", id);
    if (!strstr(name, "xn--") || !base_identifier_unicode(unicode, name))
        return snprintf(scratch, SCRATCH_SIZE, "%s: autocert: %s: ", id, name);
    return snprintf(scratch, SCRATCH_SIZE, "%s: autocert: %s (%s): ", id, name, unicode);
}

void base_log(int level, const char *id, const char *name, const char *fmt, ...)
{
    char scratch[SCRATCH_SIZE];
    char line[BASE_LOG_LINE_MAX];
    va_list args;
    int used;

    if (!receiver)
        return;
    used = begin_line(scratch, id, name);
    if (used < 0)
        return;
    if ((size_t)used < sizeof(scratch)) {
        va_start(args, fmt);
        if (vsnprintf(scratch + used, sizeof(scratch) - (size_t)used, fmt, args) < 0)
            scratch[used] = '\0';
        va_end(args);
    }
    /* Names and texts come from strangers: one call must stay one line. */
    base_error_copy_text(line, sizeof(line), scratch);
    receiver(receiver_baton, level, line);
}

int base_log_limit(base_log_limit_t *limit, long long unix_seconds, unsigned int every,
                   char others[BASE_LOG_OTHERS_SIZE])
{
    apr_uint32_t second = (apr_uint32_t)unix_seconds, last = apr_atomic_read32(&limit->second), more;

    /* Unsigned: a clock that was set back does not silence it. */
    if (second - last < every || apr_atomic_cas32(&limit->second, second, last) != last) {
        apr_atomic_inc32(&limit->held_back);
        return 0;
    }
    more = apr_atomic_xchg32(&limit->held_back, 0);
    others[0] = '\0';
    if (more > 0)
        snprintf(others, BASE_LOG_OTHERS_SIZE, " (and %u more like this)", (unsigned int)more);
    return 1;
}

static void print_time(char *buf, size_t size, const char *format, long long unix_seconds)
{
    time_t seconds = (time_t)unix_seconds;
    struct tm tm;

    if (!gmtime_r(&seconds, &tm) || strftime(buf, size, format, &tm) == 0)
        snprintf(buf, size, "unknown");
}

const char *base_log_date(char buf[16], long long unix_seconds)
{
    print_time(buf, 16, "%Y-%m-%d", unix_seconds);
    return buf;
}

const char *base_log_moment(char buf[32], long long unix_seconds, long long now_seconds)
{
    long long distance;
    int near = !__builtin_sub_overflow(unix_seconds, now_seconds, &distance)
               && distance <= NEAR_SECONDS && distance >= -NEAR_SECONDS;

    print_time(buf, 32, near ? "%H:%M" : "%Y-%m-%d %H:%M UTC", unix_seconds);
    return buf;
}
