/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

/* A cut in the scratch text may split a UTF-8 sequence; with these bytes to
 * spare the cut lies behind everything that is kept. */
#define SCRATCH_SIZE (BASE_ERROR_DETAIL_MAX + 4)
#define OPENSSL_TEXT_MAX 256        /* bytes with the NUL */

void base_error_clear(base_error_t *err)
{
    if (err)
        memset(err, 0, sizeof(*err));
}

/* Length of the valid UTF-8 sequence (RFC 3629 section 4) that starts here, 0 without one. */
static size_t measure_sequence(const unsigned char *s)
{
    static const struct {
        unsigned char lead_min, lead_max, second_min, second_max, len;
    } forms[] = {
        { 0x00, 0x7f, 0x00, 0x00, 1 },
        { 0xc2, 0xdf, 0x80, 0xbf, 2 },
        { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
        { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 },
        { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    size_t i, k;

    for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (s[0] < forms[i].lead_min || s[0] > forms[i].lead_max)
            continue;
        if (forms[i].len == 1)
            return 1;
        if (s[1] < forms[i].second_min || s[1] > forms[i].second_max)
            return 0;
        for (k = 2; k < forms[i].len; k++) {
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        }
        return forms[i].len;
    }
    return 0;
}

/* C0, DEL, and C1 (U+0080 to U+009F, which some terminals obey). */
static int is_control(const unsigned char *s, size_t len)
{
    return (len == 1 && (s[0] < 0x20 || s[0] == 0x7f))
           || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0);
}

void base_error_copy_text(char *to, size_t size, const char *from)
{
    const unsigned char *s = (const unsigned char *)(from ? from : "");
    size_t used = 0;

    if (size == 0)
        return;
    while (*s) {
        size_t len = measure_sequence(s);
        size_t take = len ? len : 1;
        int plain = len && !is_control(s, len);
        size_t out = plain ? len : 1;

        if (used + out >= size)
            break;
        if (plain)
            memcpy(to + used, s, len);
        else
            to[used] = '?';
        used += out;
        s += take;
    }
    to[used] = '\0';
}

apr_status_t base_error_set(base_error_t *err, base_error_kind_t kind, apr_status_t status,
                            const char *fmt, ...)
{
    char scratch[SCRATCH_SIZE];
    va_list args;

    if (kind != BASE_ERROR_NONE && status == APR_SUCCESS)
        status = APR_EGENERAL;
    if (!err)
        return status;

    /* The arguments may point into *err: format before anything is overwritten. */
    va_start(args, fmt);
    if (vsnprintf(scratch, sizeof(scratch), fmt, args) < 0)
        scratch[0] = '\0';
    va_end(args);

    base_error_clear(err);
    err->kind = kind;
    err->status = status;
    base_error_copy_text(err->detail, sizeof(err->detail), scratch);
    return status;
}

apr_status_t base_error_set_openssl(base_error_t *err, const char *what)
{
    char text[OPENSSL_TEXT_MAX] = "no reason given";
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    if (!reason) {
        if (code)
            ERR_error_string_n(code, text, sizeof(text));
        reason = text;
    }
    base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "%s: %s", what, reason);
    ERR_clear_error();
    return APR_EGENERAL;
}
