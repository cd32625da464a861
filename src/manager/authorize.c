/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/authorize.h"

#include <string.h>

#include <apr_strings.h>

#include "acme/authorization.h"
#include "base/identifier.h"
#include "base/log.h"
#include "base/step.h"
#include "challenge/challenge.h"
#include "manager/saved.h"

#define ASK_AGAIN apr_time_from_sec(10)             /* a validation asked for by a child that is gone */
#define ASKED_STEP apr_time_from_msec(250)          /* between two looks at that */

/* What every kind of challenge may want to know. */
static void describe(challenge_task_t *task, const manager_job_t *job, const char *token)
{
    acme_account_t *account = job->ca->account;

    memset(task, 0, sizeof(*task));
    task->cache = job->context->cache;
    task->name = job->name->name;
    task->token = token;
    if (token != NULL)
        task->key_authorization = acme_account_key_authorization(account, token, job->pool);
    task->account_uri = acme_account_url(account, job->pool);
    task->dns = job->name->settings->dns;
    task->listeners = job->context->listeners;
    task->stop = acme_client_stop(acme_account_client(account));
    task->now = job->context->now();
}

void manager_authorize_withdraw_left(manager_job_t *job)
{
    const challenge_kind_t *kind = job->asked_type != NULL ? challenge_find(job->asked_type) : NULL;
    challenge_task_t task;

    if (kind == NULL || job->asked_token == NULL)
        return;
    describe(&task, job, job->asked_token);
    if (!kind->uses_dns || task.dns != NULL)
        kind->withdraw(&task, job->pool);
    job->asked_type = job->asked_token = NULL;
}

/* The kinds to try, best first. The one that worked last time leads; after a failure each
 * later try uses one kind, in turn: CAs count failed validations. */
static int choose_kinds(const manager_job_t *job,
                        const challenge_kind_t *kinds[MANAGER_POLICY_CHALLENGES_MAX])
{
    int left = manager_ledger_validations_left(&job->ledger, job->context->now());
    int i, n = manager_policy_challenges(job->name, kinds, MANAGER_POLICY_CHALLENGES_MAX);

    for (i = 1; i < n; i++) {
        const challenge_kind_t *kind = kinds[i];

        if (strcmp(kind->type, job->ledger.challenge) != 0)
            continue;
        memmove(&kinds[1], &kinds[0], i * sizeof(kinds[0]));
        kinds[0] = kind;
    }
    if (job->ledger.failures > 0 && n > 1) {
        kinds[0] = kinds[job->ledger.failures % n];
        n = 1;
    }
    /* The ledger's next_try sees to it that there is one left. */
    return n > left && left > 0 ? left : n;
}

/* A child that is gone may have asked for this validation already, and there are CAs that start a
 * second one for each time they are asked: the late one would meet a challenge that is answered no
 * more, and end the order. So it is given time first; *needed says whether to ask now. */
static apr_status_t await_asked(manager_job_t *job, const char *url,
                                const acme_authorization_challenge_t *challenge, int *needed,
                                base_error_t *err)
{
    const base_stop_t *stop = acme_client_stop(acme_account_client(job->ca->account));
    apr_status_t rv;

    *needed = 0;
    while (job->asked != NULL && strcmp(job->asked, challenge->url) == 0
           && job->context->now() >= job->asked_at && job->context->now() - job->asked_at < ASK_AGAIN) {
        acme_authorization_t *authorization = NULL;
        const acme_authorization_challenge_t *latest;

        if (base_stop_wait(stop, ASKED_STEP) != APR_SUCCESS)
            return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "stopped");
        rv = acme_authorization_read(&authorization, job->ca->account, url, job->pool, err);
        if (rv != APR_SUCCESS)
            return rv;
        latest = acme_authorization_find_challenge(authorization, challenge->type);
        if (authorization->status != ACME_OBJECT_PENDING || latest == NULL
            || latest->status != ACME_OBJECT_PENDING)
            return APR_SUCCESS;
    }
    *needed = 1;
    job->asked = challenge->url;
    job->asked_type = challenge->type;
    job->asked_token = challenge->token;
    job->asked_at = job->context->now();
    rv = manager_saved_store(job, err);
    base_step(BASE_STEP_ASKING);
    return rv;
}

/* Tell the CA to validate a challenge, once. */
static apr_status_t ask(manager_job_t *job, const char *url, const acme_authorization_challenge_t *challenge,
                        base_error_t *err)
{
    int needed = 0;
    apr_status_t rv = APR_SUCCESS;

    if (challenge->status == ACME_OBJECT_PENDING)
        rv = await_asked(job, url, challenge, &needed, err);
    if (rv == APR_SUCCESS && needed)
        rv = acme_authorization_accept(job->ca->account, challenge->url, job->pool, err);
    base_step(BASE_STEP_ASKED);
    return rv;
}

/* Make the answer visible and look at it as the CA will. What is half there after a failure is taken away: a
 * program may have set its record before it failed. */
static apr_status_t publish(manager_job_t *job, const challenge_kind_t *kind, const challenge_task_t *task,
                            base_error_t *err)
{
    apr_status_t rv;

    if (kind->uses_dns && task->dns == NULL)
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EGENERAL, "%s is not configured", kind->type);
    rv = kind->publish(task, job->pool, err);
    if (rv == APR_SUCCESS && kind->check != NULL)
        rv = kind->check(task, job->pool, err);
    if (rv != APR_SUCCESS && err->kind != BASE_ERROR_CANCELLED)
        kind->withdraw(task, job->pool);
    if (rv != APR_SUCCESS && err->kind == BASE_ERROR_VALIDATION)
        err->status = rv = APR_ENOTIMPL;
    return rv;
}

/* Publish, trigger, wait, withdraw: one challenge. An answer stays published when this child
 * is stopped in between: the CA may still come for it, and the order is resumed. */
static apr_status_t prove(manager_job_t *job, const char *url, const challenge_kind_t *kind,
                          const acme_authorization_challenge_t *challenge, base_error_t *err)
{
    acme_account_t *account = job->ca->account;
    challenge_task_t task;
    apr_status_t rv;

    describe(&task, job, challenge->token);
    task.issuers = challenge->issuers;
    if (task.token != NULL && task.key_authorization == NULL)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "the account has no key");
    if ((rv = publish(job, kind, &task, err)) != APR_SUCCESS)
        return rv;
    base_step(BASE_STEP_PUBLISHED);
    rv = ask(job, url, challenge, err);
    if (rv == APR_SUCCESS)
        rv = acme_authorization_wait(account, url, kind->type, job->pool, err);
    if (rv != APR_SUCCESS && err->kind == BASE_ERROR_VALIDATION)
        job->validations++;
    if (rv == APR_SUCCESS)
        base_step(BASE_STEP_AUTHORIZED);
    if (rv == APR_SUCCESS || err->kind != BASE_ERROR_CANCELLED)
        kind->withdraw(&task, job->pool);
    if (rv == APR_SUCCESS)
        job->challenge = kind->type;
    return rv;
}

/* Make one authorization valid with a kind. APR_ENOTIMPL when the CA was not asked: it does not offer the
 * kind, or there is nothing for it to see. */
static apr_status_t authorize_one(manager_job_t *job, const char *url, const challenge_kind_t *kind,
                                  base_error_t *err)
{
    acme_authorization_t *authorization = NULL;
    const acme_authorization_challenge_t *challenge;
    apr_status_t rv = acme_authorization_read(&authorization, job->ca->account, url, job->pool, err);

    if (rv != APR_SUCCESS || authorization->status == ACME_OBJECT_VALID)
        return rv;
    if (authorization->status == ACME_OBJECT_INVALID)
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_EGENERAL,
                              "the CA holds the authorization for invalid");
    if (!base_identifier_is_same(authorization->identifier, base_identifier_base(job->name->name)))
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_EGENERAL,
                              "the CA asks to prove another name, %s", authorization->identifier);
    challenge = acme_authorization_find_challenge(authorization, kind->type);
    if (challenge == NULL)
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_ENOTIMPL,
                              "the CA does not offer %s for it", kind->type);
    rv = prove(job, url, kind, challenge, err);
    if (rv != APR_SUCCESS && rv != APR_ENOTIMPL && err->kind == BASE_ERROR_VALIDATION)
        acme_authorization_deactivate(job->ca->account, url, job->pool);
    return rv;
}

static apr_status_t authorize_all(manager_job_t *job, const challenge_kind_t *kind, base_error_t *err)
{
    int i;

    for (i = 0; i < job->order->authorizations->nelts; i++) {
        const char *url = APR_ARRAY_IDX(job->order->authorizations, i, const char *);
        apr_status_t rv = authorize_one(job, url, kind, err);

        if (rv != APR_SUCCESS)
            return rv;
    }
    return acme_order_wait_ready(&job->order, job->ca->account, job->pool, err);
}

apr_status_t manager_authorize_run(manager_job_t *job, manager_authorize_place_t *place, base_error_t *err)
{
    const challenge_kind_t *kinds[MANAGER_POLICY_CHALLENGES_MAX];
    int i, n = choose_kinds(job, kinds);
    base_error_t first;
    apr_status_t rv = APR_SUCCESS;

    base_error_clear(&first);
    for (i = 0; i < n; i++) {
        if (job->order == NULL && (rv = place(job, err)) != APR_SUCCESS)
            return rv;
        if (job->order->status != ACME_OBJECT_PENDING)
            return APR_SUCCESS;
        rv = authorize_all(job, kinds[i], err);
        if (rv == APR_SUCCESS || err->kind != BASE_ERROR_VALIDATION)
            return rv;
        base_log(BASE_LOG_INFO, "AC0113", job->name->name, "%s failed: %s %s; %s", kinds[i]->type,
                 err->type, err->detail, i + 1 < n ? kinds[i + 1]->type : "no other kind is tried now");
        if (rv != APR_ENOTIMPL)     /* the same order can go on with another kind */
            manager_saved_forget(job);
        if (first.kind == BASE_ERROR_NONE || first.status == APR_ENOTIMPL) {
            first = *err;
            base_error_set(&first, err->kind, rv, "%s %s", kinds[i]->type, err->detail);
            apr_cpystrn(first.type, err->type, sizeof(first.type));
        }
    }
    *err = first;
    if (first.kind == BASE_ERROR_NONE)
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EGENERAL, "no kind of challenge is configured "
                              "that can prove it");
    return rv;
}
