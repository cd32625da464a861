/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#define DURATION_MAX apr_time_from_sec((apr_int64_t)100 * 365 * 24 * 3600)
#define COUNT_MAX 1000000

static const struct {
    const char *name;
    apr_interval_time_t length;
} units[] = {
    { "ms", APR_TIME_C(1000) },
    { "s", APR_TIME_C(1000000) },
    { "mi", APR_TIME_C(60000000) },
    { "min", APR_TIME_C(60000000) },
    { "h", APR_TIME_C(3600000000) },
    { "d", APR_TIME_C(86400000000) },
};

/* Digits only: strtol alone would take signs and blanks. */
static int read_number(apr_int64_t *number, const char *text, const char **end)
{
    char *stop;

    if (!apr_isdigit(*text))
        return 0;
    errno = 0;
    *number = apr_strtoi64(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

const char *httpd_values_duration(apr_interval_time_t *value, const char *text, apr_pool_t *pool)
{
    apr_int64_t number;
    const char *unit;
    size_t i;

    if (!read_number(&number, text, &unit))
        return apr_psprintf(pool, "\"%s\" is not a duration: write a number and a unit, "
                            "for example \"30s\", \"10mi\", \"12h\" or \"30d\"", text);
    if (*unit == '\0' && number == 0) {
        *value = 0;
        return NULL;
    }
    if (*unit == '\0')
        return apr_psprintf(pool, "\"%s\" has no unit: write \"%ss\", \"%smi\", \"%sh\" or \"%sd\"",
                            text, text, text, text, text);
    for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].name) != 0)
            continue;
        if (number > DURATION_MAX / units[i].length)
            return apr_psprintf(pool, "\"%s\" is longer than 100 years: write less", text);
        *value = number * units[i].length;
        return NULL;
    }
    if (strcmp(unit, "m") == 0)
        return apr_psprintf(pool, "\"%s\" could be minutes or months: minutes are \"mi\", "
                            "write \"%" APR_INT64_T_FMT "mi\"", text, number);
    return apr_psprintf(pool, "\"%s\" has an unknown unit: write ms, s, mi, h or d behind the number",
                        text);
}

const char *httpd_values_size(apr_size_t *value, const char *text, apr_pool_t *pool)
{
    static const char letters[] = "KMG";
    apr_int64_t number, factor = 1;
    const char *unit, *letter;

    if (read_number(&number, text, &unit)) {
        letter = *unit ? strchr(letters, apr_toupper(*unit)) : NULL;
        if (letter != NULL) {
            factor = APR_INT64_C(1) << (10 * (letter - letters + 1));
            unit++;
        }
        if (*unit == '\0' && number > 0 && number <= APR_INT64_MAX / factor
            && (apr_uint64_t)(number * factor) <= APR_SIZE_MAX) {
            *value = (apr_size_t)(number * factor);
            return NULL;
        }
    }
    return apr_psprintf(pool, "\"%s\" is not a size: write bytes, or a number with K, M or G, "
                        "for example \"128M\"", text);
}

const char *httpd_values_count(int *value, const char *text, const char *what, apr_pool_t *pool)
{
    apr_int64_t number;
    const char *end;

    if (!read_number(&number, text, &end) || *end != '\0' || number < 1 || number > COUNT_MAX)
        return apr_psprintf(pool, "\"%s\" does not say %s: write a number from 1 to %d", text, what,
                            COUNT_MAX);
    *value = (int)number;
    return NULL;
}

const char *httpd_values_rate(manager_budget_rate_t *value, const char *text, apr_pool_t *pool)
{
    apr_int64_t number;
    apr_interval_time_t period;
    const char *slash, *err;

    if (!read_number(&number, text, &slash) || *slash != '/' || number < 1 || number > COUNT_MAX)
        return apr_psprintf(pool, "\"%s\" is not a rate: write a number of orders and a period, "
                            "for example \"280/3h\"", text);
    if ((err = httpd_values_duration(&period, slash + 1, pool)) != NULL)
        return err;
    if (period < apr_time_from_sec(1))
        return apr_psprintf(pool, "the period of \"%s\" is shorter than a second: write \"1s\" or more",
                            text);
    value->orders = (int)number;
    value->period = period;
    return NULL;
}

const char *httpd_values_renewal(manager_policy_renewal_t *value, const char *text, apr_pool_t *pool)
{
    apr_int64_t number;
    const char *end, *err;

    value->before = 0;
    value->percent = 0;
    if (read_number(&number, text, &end) && strcmp(end, "%") == 0) {
        if (number < 1 || number > 90)
            return apr_psprintf(pool, "\"%s\" is out of range: write 1%% to 90%%", text);
        value->percent = (int)number;
        return NULL;
    }
    if ((err = httpd_values_duration(&value->before, text, pool)) != NULL)
        return err;
    return value->before > 0 ? NULL : "0 would renew when it is too late: write for example \"33%\" "
                                      "or \"30d\"";
}

const char *httpd_values_email(const char *text, apr_pool_t *pool)
{
    const char *at = strchr(text, '@'), *c;

    for (c = text; *c != '\0'; c++)
        if (!apr_isgraph(*c) || strchr(",?&%<>\"", *c))
            at = NULL;
    if (at == NULL || at == text || at[1] == '\0' || strchr(at + 1, '@'))
        return apr_psprintf(pool, "\"%s\" is not a mail address: write for example "
                            "\"webmaster@example.org\"", text);
    return NULL;
}
