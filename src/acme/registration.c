/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/registration.h"

#include <string.h>

#include <apr_strings.h>

#include "acme/account_store.h"
#include "acme/refusal.h"
#include "base/json.h"
#include "base/log.h"
#include "base/step.h"
#include "crypto/jws.h"
#include "crypto/key.h"

/* Non-zero when the terms are among those agreed to. */
static int is_agreed(const acme_client_config_t *config, const char *terms)
{
    int i;

    if (config->tos_any) {
        return 1;
    }
    for (i = 0; config->tos_urls != NULL && i < config->tos_urls->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(config->tos_urls, i, const char *), terms) == 0) {
            return 1;
        }
    }
    return 0;
}

/* An account that agreed once is not shut out when the CA publishes new terms: the CA says
 * itself (userActionRequired) when it insists. But nothing at all is sent without a word of
 * agreement in the configuration. */
apr_status_t acme_registration_check_terms(acme_account_work_t *work)
{
    const acme_client_config_t *config = work->config;
    const char *terms = work->directory.terms_of_service;
    int any_word = config->tos_any || (config->tos_urls != NULL && config->tos_urls->nelts > 0);

    if (terms == NULL || is_agreed(config, terms)) {
        return APR_SUCCESS;
    }
    if (any_word && work->url != NULL) {
        base_log(BASE_LOG_WARNING, "AC0204", NULL, "%s: the CA has new terms of service, %s, that "
                 "AutocertAcceptTOS does not list; the existing account is used on",
                 config->name, terms);
        return APR_SUCCESS;
    }
    return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES,
                          "the CA's terms of service are not agreed to: read %.160s and write "
                          "\"AutocertAcceptTOS on\" or \"AutocertAcceptTOS %.160s\"",
                          terms, terms);
}

/* The contact list, as RFC 8555 section 7.3 wants it; empty without an address. */
static json_t *make_contact(const acme_client_config_t *config, apr_pool_t *pool)
{
    if (config->email == NULL) {
        return json_array();
    }
    return json_pack("[s]", apr_pstrcat(pool, "mailto:", config->email, NULL));
}

int acme_registration_is_contact_told(const acme_account_work_t *work)
{
    const char *a = work->email, *b = work->config->email;

    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* An account that is gone is found out by orders. */
void acme_registration_update_contact(acme_account_work_t *work)
{
    acme_client_answer_t answer;
    json_t *payload = json_pack("{s:o}", "contact", make_contact(work->config, work->pool));

    if (acme_account_work_post(work, work->key, work->url, work->url,
                               payload != NULL ? base_json_dump(payload, work->pool) : NULL, &answer)
        != APR_SUCCESS) {
        base_log(BASE_LOG_WARNING, "AC0205", NULL, "%s: the account's contact could not be "
                 "changed: %s; tried again after the next start", work->config->name,
                 work->err->detail);
        return;
    }
    work->email = work->config->email;
    base_log(BASE_LOG_INFO, "AC0206", NULL, "%s: the account's contact is %s now",
             work->config->name, work->email != NULL ? work->email : "empty");
    acme_account_store_put_record(work);
}

/* Take the account that newAccount answered with. */
static apr_status_t accept_account(acme_account_work_t *work, const acme_client_answer_t *answer)
{
    const char *status = base_json_string(answer->json, "status");
    int is_new = answer->http->status == 201;

    if (status != NULL && strcmp(status, "valid") != 0) {
        apr_status_t st = base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES,
                                         "it is %.40s", status);

        acme_refusal_reword_as_dead(work->err, work->config, work->places->key_name, answer->location);
        return st;
    }
    if (answer->location == NULL) {
        return base_error_set(work->err, BASE_ERROR_CA_DOWN, APR_EGENERAL,
                              "the CA made an account but did not say where (no Location)");
    }
    if (is_new) {
        base_step(BASE_STEP_REGISTERED);
    }
    work->url = answer->location;
    work->email = is_new ? work->config->email : NULL;
    base_log(BASE_LOG_NOTICE, "AC0207", NULL, "%s: %s the account %s%s%s", work->config->name,
             is_new ? "made" : "found", work->url,
             work->directory.terms_of_service != NULL ? ", agreed to " : "",
             work->directory.terms_of_service != NULL ? work->directory.terms_of_service : "");
    acme_account_store_put_record(work);
    return APR_SUCCESS;
}

apr_status_t acme_registration_find(acme_account_work_t *work)
{
    acme_client_answer_t answer;
    apr_status_t st = acme_account_work_post(work, work->key, work->directory.new_account, NULL,
                                             ACME_ACCOUNT_ONLY_EXISTING, &answer);

    if (st == APR_SUCCESS) {
        return accept_account(work, &answer);
    }
    /* Some CAs want the binding even for this question: then there is no account either. */
    return strcmp(work->err->type, "accountDoesNotExist") == 0
           || strcmp(work->err->type, "externalAccountRequired") == 0 ? APR_NOTFOUND : st;
}

/* The payload of newAccount; NULL when it cannot be made. */
static const char *write_registration(acme_account_work_t *work)
{
    const acme_client_config_t *config = work->config;
    json_t *payload = json_object(), *binding;
    const char *jws = NULL;

    if (payload == NULL) {
        base_error_set(work->err, BASE_ERROR_LOCAL, APR_ENOMEM, "no memory for the account");
        return NULL;
    }
    if (work->directory.terms_of_service != NULL) {
        json_object_set_new(payload, "termsOfServiceAgreed", json_true());
    }
    if (config->email != NULL) {
        json_object_set_new(payload, "contact", make_contact(config, work->pool));
    }
    if (config->eab_kid != NULL) {
        if (crypto_jws_sign_binding(&jws, work->key, config->eab_kid, config->eab_key,
                                    work->directory.new_account, work->pool, work->err) != APR_SUCCESS) {
            json_decref(payload);
            return NULL;
        }
        binding = base_json_parse_object(jws, strlen(jws), work->pool);
        json_object_set(payload, "externalAccountBinding", binding);
    }
    return base_json_dump(payload, work->pool);
}

#define DEMAND_BINDING "the CA makes accounts only for its customers (external account binding): get a key " \
    "id and a MAC key from it, write them into a file and that into the configuration: " \
    "\"AutocertCA ... eab=FILE\""

/* Say what is to be done about a refusal to make an account. */
static void explain_refusal(acme_account_work_t *work)
{
    base_error_t *err = work->err;
    char words[BASE_ERROR_DETAIL_MAX];
    static const char *const of_binding[] = {
        "unauthorized", "malformed", "externalAccountRequired", "badPublicKey"
    };
    size_t i;

    apr_cpystrn(words, err->detail, sizeof(words));
    if (acme_refusal_mentions_dead(err)) {
        acme_refusal_reword_as_dead(err, work->config, work->places->key_name, NULL);
        return;
    }
    if (work->config->eab_kid == NULL) {
        if (strcmp(err->type, "externalAccountRequired") == 0) {
            acme_refusal_reword(err, DEMAND_BINDING " (%.150s)", words);
        }
        return;
    }
    for (i = 0; i < sizeof(of_binding) / sizeof(of_binding[0]); i++) {
        if (strcmp(err->type, of_binding[i]) == 0) {
            acme_refusal_reword(err, "the CA did not make an account with the external account binding of "
                                "key id %.100s: %.250s; if it was used before or is wrong, get a new one "
                                "and change the file of eab=", work->config->eab_kid, words);
            return;
        }
    }
}

static apr_status_t register_account(acme_account_work_t *work, acme_client_answer_t *answer)
{
    const char *payload = write_registration(work);

    memset(answer, 0, sizeof(*answer));
    if (payload == NULL) {
        return work->err->status;
    }
    return acme_account_work_post(work, work->key, work->directory.new_account, NULL, payload, answer);
}

/* A known key gets its old account back, contact unchanged (RFC 8555 section 7.3.1). Bindings are often
 * good for one time only: one is not spent on an account that is there, such as one whose making was
 * not noted before a crash. */
apr_status_t acme_registration_create(acme_account_work_t *work)
{
    acme_client_answer_t answer;
    apr_status_t st;

    if ((work->config->eab_kid != NULL || work->directory.external_account_required) && !work->is_made) {
        st = acme_registration_find(work);
        if (st != APR_NOTFOUND) {
            return st;
        }
    }
    if (work->directory.external_account_required && work->config->eab_kid == NULL) {
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES, "%s", DEMAND_BINDING);
    }
    st = register_account(work, &answer);
    if (st != APR_SUCCESS && (work->is_made || work->is_fresh) && !crypto_key_is_rsa(work->key)
        && acme_refusal_wants_rsa(work->err, &answer)) {
        base_log(BASE_LOG_WARNING, "AC0238", NULL, "%s: the CA takes only RSA account keys; the new account "
                 "gets one", work->config->name);
        st = acme_account_store_make_new_key(work, CRYPTO_KEY_RSA2048);
        if (st == APR_SUCCESS) {
            st = register_account(work, &answer);
        }
    }
    if (st != APR_SUCCESS) {
        explain_refusal(work);
        return st;
    }
    return accept_account(work, &answer);
}
