/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/refusal.h"

#include <stdarg.h>
#include <string.h>

#include <apr_strings.h>

#include "base/json.h"

int acme_refusal_is_no(const base_error_t *err)
{
    return err->kind == BASE_ERROR_OPERATOR || err->kind == BASE_ERROR_GONE;
}

int acme_refusal_is_of_key(const base_error_t *err)
{
    static const char *const types[] = {
        "unauthorized", "malformed", "badPublicKey", "badSignatureAlgorithm", "accountDoesNotExist"
    };
    size_t i;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(err->type, types[i]) == 0) {
            return acme_refusal_is_no(err);
        }
    }
    return acme_refusal_is_no(err) && (err->http_status == 401 || err->http_status == 403);
}

int acme_refusal_mentions_dead(const base_error_t *err)
{
    return strcmp(err->type, "unauthorized") == 0 && strcasestr(err->detail, "account") != NULL
           && (strcasestr(err->detail, "deactivated") != NULL
               || strcasestr(err->detail, "revoked") != NULL);
}

int acme_refusal_wants_rsa(const base_error_t *err, const acme_client_answer_t *answer)
{
    json_t *list = base_json_array(answer->problem, "algorithms");
    int has_rsa = 0, has_ec = 0;
    size_t i;

    for (i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));

        has_rsa |= word != NULL && strcmp(word, "RS256") == 0;
        has_ec |= word != NULL && strcmp(word, "ES256") == 0;
    }
    return strcmp(err->type, "badSignatureAlgorithm") == 0 && has_rsa && !has_ec;
}

void acme_refusal_reword(base_error_t *err, const char *fmt, ...)
{
    char text[2 * BASE_ERROR_DETAIL_MAX];
    va_list args;

    va_start(args, fmt);
    apr_vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    base_error_copy_text(err->detail, sizeof(err->detail), text);
}

void acme_refusal_reword_as_dead(base_error_t *err, const acme_client_config_t *config, const char *key_name,
                                 const char *url)
{
    const char *which = url != NULL ? url : "of this key";
    char words[BASE_ERROR_DETAIL_MAX];

    apr_cpystrn(words, err->detail, sizeof(words));
    err->kind = BASE_ERROR_OPERATOR;
    if (config->account_pem != NULL) {
        acme_refusal_reword(err, "the CA has closed the account %.120s for good (%.120s): give account= "
                            "another key", which, words);
    }
    else {
        acme_refusal_reword(err, "the CA has closed the account %.120s for good (%.120s): remove %s from "
                            "the cache, and a new one is made", which, words, key_name);
    }
}
