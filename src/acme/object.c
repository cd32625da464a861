/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/object.h"

#include <string.h>

#include "base/json.h"

/* Words of RFC 8555 section 7.1.6; any other means "not finished". */
static const struct {
    const char *word;
    acme_object_status_t status;
} statuses[] = {
    { "pending", ACME_OBJECT_PENDING },
    { "ready", ACME_OBJECT_READY },
    { "processing", ACME_OBJECT_PROCESSING },
    { "valid", ACME_OBJECT_VALID },
    { "invalid", ACME_OBJECT_INVALID },
    { "deactivated", ACME_OBJECT_INVALID },
    { "expired", ACME_OBJECT_INVALID },
    { "revoked", ACME_OBJECT_INVALID }
};

acme_object_status_t acme_object_status(const json_t *json)
{
    const char *word = base_json_string(json, "status");
    size_t i;

    for (i = 0; word != NULL && i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (strcmp(statuses[i].word, word) == 0) {
            return statuses[i].status;
        }
    }
    return ACME_OBJECT_PENDING;
}

const char *acme_object_status_word(acme_object_status_t status)
{
    size_t i;

    for (i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (statuses[i].status == status) {
            return statuses[i].word;
        }
    }
    return "";
}

const char *acme_object_url(const acme_client_answer_t *answer, const json_t *json,
                            const char *member, apr_pool_t *pool)
{
    return acme_http_resolve(answer->http, base_json_string(json, member), pool);
}

apr_status_t acme_object_refuse(base_error_t *err, const char *what, const char *url, const char *why)
{
    return base_error_set(err, BASE_ERROR_CA_DOWN, APR_EGENERAL, "the CA's %s %.200s %s", what,
                          url, why);
}
