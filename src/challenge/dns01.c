/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/dns01.h"

#include <string.h>
#include <time.h>

#include <apr_strings.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/base64url.h"
#include "base/log.h"
#include "challenge/dns_command.h"
#include "challenge/resolver.h"

#define STEP_FIRST apr_time_from_sec(1)     /* between two looks; doubled each time */
#define STEP_MAX apr_time_from_sec(10)
#define UNKNOWN_MAX 3                       /* looks in a row that nobody answers */

/* The value of the record (RFC 8555 section 8.4). @return NULL when OpenSSL fails */
static const char *make_value(const char *key_authorization, apr_pool_t *pool)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    if (!EVP_Digest(key_authorization, strlen(key_authorization), digest, NULL, EVP_sha256(), NULL))
        return NULL;
    return base_base64url_encode(digest, sizeof(digest), pool);
}

/* Of the record, without a dot at the end. */
static const char *make_record(const char *name, apr_pool_t *pool)
{
    return apr_pstrcat(pool, CHALLENGE_DNS01_LABEL, base_identifier_base(name), NULL);
}

static apr_status_t run(const challenge_task_t *task, const char *action, apr_pool_t *pool, base_error_t *err)
{
    challenge_dns_command_run_t about;

    memset(&about, 0, sizeof(about));
    about.action = action;
    about.name = task->name;
    about.fqdn = apr_pstrcat(pool, make_record(task->name, pool), ".", NULL);
    if (!task->dns || !task->dns->command)
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EGENERAL,
                              "dns-01 needs AutocertDNSCommand, a program that sets the record %s",
                              about.fqdn);
    if (!task->key_authorization)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "what the record %s has is not known here",
                              about.fqdn);
    about.value = make_value(task->key_authorization, pool);
    if (!about.value)
        return base_error_set_openssl(err, "SHA-256 failed");
    return challenge_dns_command_run(task->dns->command, &about, task->stop, pool, err);
}

static apr_status_t publish(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    return run(task, CHALLENGE_DNS_COMMAND_PRESENT, pool, err);
}

/* Microseconds of a clock that nobody sets. */
static apr_interval_time_t read_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (apr_interval_time_t)ts.tv_sec * APR_USEC_PER_SEC + ts.tv_nsec / 1000;
}

static int is_value(void *baton, const char *value)
{
    return strcmp(baton, value) == 0;
}

static apr_status_t give_up(const challenge_task_t *task, challenge_resolver_seen_t seen, const char *detail,
                            apr_interval_time_t waited)
{
    long seconds = (long)apr_time_sec(waited);

    detail = detail && detail[0] ? detail : "no reason is known";
    if (seen == CHALLENGE_RESOLVER_UNKNOWN)
        base_log(BASE_LOG_WARNING, "AC0254", task->name, "no authoritative server can be asked for the "
                 "record, tried for %ld s: %s; the CA is asked all the same", seconds, detail);
    else
        base_log(BASE_LOG_WARNING, "AC0254", task->name, "the record is not at all authoritative servers "
                 "after %ld s: %s; the CA is asked all the same", seconds, detail);
    return APR_SUCCESS;
}

static apr_status_t look_until(const challenge_task_t *task, const challenge_resolver_look_t *look,
                               apr_pool_t *pool, base_error_t *err)
{
    apr_interval_time_t start = read_clock(), step = STEP_FIRST, left;
    apr_pool_t *scratch = NULL;
    challenge_resolver_seen_t seen = CHALLENGE_RESOLVER_UNKNOWN;
    const char *detail = NULL;
    int unknown = 0, stopped = 0;

    apr_pool_create(&scratch, pool);
    for (;;) {
        apr_pool_clear(scratch);
        detail = NULL;
        seen = challenge_resolver_look(look, &detail, scratch);
        unknown = seen == CHALLENGE_RESOLVER_UNKNOWN ? unknown + 1 : 0;
        left = task->dns->wait - (read_clock() - start);
        if (seen == CHALLENGE_RESOLVER_EVERYWHERE || unknown == UNKNOWN_MAX || left <= 0)
            break;
        stopped = seen == CHALLENGE_RESOLVER_STOPPED
                  || base_stop_wait(task->stop, step < left ? step : left) != APR_SUCCESS;
        if (stopped)
            break;
        step = 2 * step < STEP_MAX ? 2 * step : STEP_MAX;
    }
    stopped = stopped || seen == CHALLENGE_RESOLVER_STOPPED;
    if (!stopped && seen == CHALLENGE_RESOLVER_EVERYWHERE)
        base_log(BASE_LOG_INFO, "AC0253", task->name, "all authoritative servers that answer have the "
                 "record %s, seen after %ld s; the CA is asked", look->name,
                 (long)apr_time_sec(read_clock() - start));
    else if (!stopped)
        give_up(task, seen, detail, read_clock() - start);
    apr_pool_destroy(scratch);
    if (stopped)
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR,
                              "no more looks at the record %s, as this child is asked to stop", look->name);
    return APR_SUCCESS;
}

/* Until all authoritative servers have the record: the CA asks one of them, and remembers what it says. */
static apr_status_t check(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    challenge_resolver_look_t look;
    const char *value;

    if (!task->dns || task->dns->wait <= 0 || !task->key_authorization)
        return APR_SUCCESS;
    value = make_value(task->key_authorization, pool);
    if (!value)
        return base_error_set_openssl(err, "SHA-256 failed");
    memset(&look, 0, sizeof(look));
    look.config = task->dns->resolver;
    look.name = make_record(task->name, pool);
    look.match = is_value;
    look.baton = (void *)value;
    look.stop = task->stop;
    return look_until(task, &look, pool, err);
}

/* A child that goes on with an order of another one may know its token only, and so not the value. */
static void withdraw(const challenge_task_t *task, apr_pool_t *pool)
{
    const char *value = task->key_authorization ? make_value(task->key_authorization, pool) : NULL;
    base_error_t err;

    if (run(task, CHALLENGE_DNS_COMMAND_CLEANUP, pool, &err) == APR_SUCCESS)
        return;
    base_log(BASE_LOG_WARNING, "AC0252", task->name, "%s; the record may be left over, which harms nobody; "
             "remove it: %s. TXT%s%s", err.detail, make_record(task->name, pool),
             value ? " " : ", those that no order under way needs", value ? value : "");
}

const challenge_kind_t challenge_dns01 = {
    .type = CHALLENGE_DNS01_TYPE,
    .proves = BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_WILDCARD,
    .uses_dns = 1,
    .publish = publish,
    .check = check,
    .withdraw = withdraw
};
