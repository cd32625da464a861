/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/dnspersist01.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "base/log.h"
#include "challenge/resolver.h"

#define STRING_MAX 255          /* bytes of one character string of a TXT record (RFC 1035 section 3.3) */
#define UNTIL_DIGITS_MAX 12     /* of persistUntil: thousands of years */
#define BLANKS " \t"

/* The parameters of a record that are known; NULL: not there. */
typedef struct parameters_t {
    const char *account_uri;
    const char *policy;
    const char *until;
} parameters_t;

/* --- The record to set ------------------------------------------------------------ */

/* A value as character strings of a zone file: pieces that are not too long, in quotes. */
static const char *quote_value(const char *value, apr_pool_t *pool)
{
    size_t len = strlen(value), i;
    /* Each byte may get a backslash, and each piece quotes and a space. */
    char *quoted = apr_palloc(pool, 2 * len + 3 * (len / STRING_MAX + 1) + 1);
    char *to = quoted;

    *to++ = '"';
    for (i = 0; i < len; i++) {
        if (i > 0 && i % STRING_MAX == 0) {
            memcpy(to, "\" \"", 3);
            to += 3;
        }
        if (value[i] == '"' || value[i] == '\\')
            *to++ = '\\';
        *to++ = value[i];
    }
    *to++ = '"';
    *to = '\0';
    return quoted;
}

const char *challenge_dnspersist01_record(const char *name, const char *issuer, const char *account_uri,
                                          apr_pool_t *pool)
{
    int is_wildcard = base_identifier_kind(name) == BASE_IDENTIFIER_WILDCARD;
    const char *value = apr_pstrcat(pool, issuer, "; accounturi=", account_uri,
                                    is_wildcard ? "; policy=wildcard" : "", NULL);

    return apr_pstrcat(pool, CHALLENGE_DNSPERSIST01_LABEL, base_identifier_base(name), ". IN TXT ",
                       quote_value(value, pool), NULL);
}

/* --- Reading a record -------------------------------------------------------------- */

/* Cut blanks off both ends, in place. */
static char *trim(char *text)
{
    size_t len;

    text += strspn(text, BLANKS);
    len = strlen(text);
    while (len > 0 && strchr(BLANKS, text[len - 1]))
        len--;
    text[len] = '\0';
    return text;
}

/* Take one "key=value". @return zero when it is none, or a known one stood there before */
static int take_parameter(parameters_t *parameters, char *text)
{
    struct {
        const char *key;
        const char **value;
    } known[] = {
        { "accounturi", &parameters->account_uri },
        { "policy", &parameters->policy },
        { "persistUntil", &parameters->until },
    };
    char *value = strchr(text, '=');
    const char *key;
    size_t i;

    if (!value)
        return 0;
    *value++ = '\0';
    key = trim(text);
    value = trim(value);
    if (!*key)
        return 0;
    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcasecmp(known[i].key, key) == 0) {
            if (*known[i].value)
                return 0;
            *known[i].value = value;
        }
    }
    return 1;
}

/* Non-zero for one of the issuers, a last dot aside. */
static int is_issuer(const char *text, const apr_array_header_t *issuers)
{
    size_t len = strlen(text);
    int i;

    len -= len > 0 && text[len - 1] == '.';
    for (i = 0; len > 0 && issuers && i < issuers->nelts; i++) {
        const char *issuer = APR_ARRAY_IDX(issuers, i, const char *);
        size_t issuer_len = strlen(issuer);

        issuer_len -= issuer_len > 0 && issuer[issuer_len - 1] == '.';
        if (issuer_len == len && strncasecmp(issuer, text, len) == 0)
            return 1;
    }
    return 0;
}

static int is_in_future(const char *until, apr_time_t now)
{
    size_t digits = strspn(until, "0123456789");

    return digits > 0 && digits <= UNTIL_DIGITS_MAX && until[digits] == '\0'
           && apr_atoi64(until) > apr_time_sec(now);
}

int challenge_dnspersist01_allows(const char *value, const char *name, const apr_array_header_t *issuers,
                                  const char *account_uri, apr_time_t now)
{
    char text[CHALLENGE_RESOLVER_VALUE_MAX + 1];
    parameters_t parameters = { 0 };
    char *rest = text, *part;

    if (strlen(value) >= sizeof(text))
        return 0;
    memcpy(text, value, strlen(value) + 1);
    if (!is_issuer(trim(strsep(&rest, ";")), issuers))
        return 0;
    while ((part = strsep(&rest, ";")) != NULL) {
        part = trim(part);
        /* Only behind the last semicolon there may be nothing. */
        if ((*part || rest) && !take_parameter(&parameters, part))
            return 0;
    }
    return parameters.account_uri && account_uri && strcmp(parameters.account_uri, account_uri) == 0
           && (base_identifier_kind(name) != BASE_IDENTIFIER_WILDCARD
               || (parameters.policy && strcasecmp(parameters.policy, "wildcard") == 0))
           && (!parameters.until || is_in_future(parameters.until, now));
}

/* --- The challenge ----------------------------------------------------------------- */

static int match(void *baton, const char *value)
{
    const challenge_task_t *task = baton;

    return challenge_dnspersist01_allows(value, task->name, task->issuers, task->account_uri, task->now);
}

static apr_status_t refuse(const challenge_task_t *task, const char *detail, apr_pool_t *pool,
                           base_error_t *err)
{
    const char *issuer = APR_ARRAY_IDX(task->issuers, 0, const char *);
    const char *record = challenge_dnspersist01_record(task->name, issuer, task->account_uri, pool);

    base_log(BASE_LOG_WARNING, "AC0244", task->name,
             "no DNS record lets this account have a certificate of %s (%s): set this one, and the next try "
             "finds it: %s", issuer, detail, record);
    return base_error_set(err, BASE_ERROR_VALIDATION, APR_NOTFOUND,
                          "dns-persist-01 needs a DNS record that is not there: %s", record);
}

static apr_status_t publish(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    challenge_resolver_look_t look = {
        .config = task->dns->resolver,
        .name = apr_pstrcat(pool, CHALLENGE_DNSPERSIST01_LABEL, base_identifier_base(task->name), NULL),
        .match = match,
        .baton = (void *)task,
        .stop = task->stop,
    };
    const char *detail = "";

    if (!task->issuers || task->issuers->nelts == 0 || !task->account_uri)
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_EINVAL,
                              "the CA offers dns-persist-01 without a word about which issuer-domain-names a "
                              "record may hold");
    switch (challenge_resolver_look(&look, &detail, pool)) {
    case CHALLENGE_RESOLVER_STOPPED:
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
    case CHALLENGE_RESOLVER_NOWHERE:
        return refuse(task, detail, pool, err);
    case CHALLENGE_RESOLVER_EVERYWHERE:
        break;
    default:
        base_log(BASE_LOG_INFO, "AC0245", task->name,
                 "the record %s was not seen at each server (%s); the CA is asked all the same", look.name,
                 detail);
    }
    return APR_SUCCESS;
}

/* The record stands for ever: it is the administrator's. */
static void withdraw(const challenge_task_t *task, apr_pool_t *pool)
{
    (void)task;
    (void)pool;
}

const challenge_kind_t challenge_dnspersist01 = {
    .type = CHALLENGE_DNSPERSIST01_TYPE,
    .proves = BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_WILDCARD,
    .uses_dns = 1,
    .publish = publish,
    .withdraw = withdraw,
};
