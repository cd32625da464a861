/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/certificates.h"

#include "base/identifier.h"
#include "httpd/config.h"
#include "httpd/demand.h"
#include "httpd/runtime.h"

#define VISIT_EVERY apr_time_from_sec(3600)     /* a visited name is told to the calendar so often ... */
#define VISIT_PART 20                           /* ... or in this part of AutocertRetire */

/* Could the cache have it? A set in shared memory knows, once the elected child has filled it. */
static int may_be_present(const manager_policy_name_t *name)
{
    shared_names_t *present = httpd_runtime()->present;
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    return present == NULL
        || shared_names_find(present, manager_policy_cache_key(name, key)) != SHARED_NAMES_NO;
}

/* Strangers cannot make this child look into the cache, or remember a name. */
static int is_worth_a_look(const manager_policy_name_t *name, apr_time_t now)
{
    const serve_certs_entry_t *entry;

    if (name->vhost == NULL || may_be_present(name))
        return 1;
    entry = serve_certs_peek(httpd_runtime()->certs, name, now);
    httpd_certificates_release(entry);
    return entry != NULL;
}

const serve_certs_entry_t *httpd_certificates_acquire(const manager_policy_name_t *name, apr_time_t now)
{
    serve_certs_t *certs = httpd_runtime()->certs;

    if (certs == NULL || !is_worth_a_look(name, now))
        return NULL;
    return serve_certs_acquire(certs, name, now);
}

void httpd_certificates_release(const serve_certs_entry_t *entry)
{
    serve_certs_release(httpd_runtime()->certs, entry);
}

void httpd_certificates_note_visit(const manager_policy_name_t *name, const serve_certs_entry_t *entry,
                                   apr_time_t now)
{
    shared_names_t *visits = httpd_runtime()->visits;
    apr_interval_time_t every = name->settings->retire / VISIT_PART;
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    if (visits != NULL && manager_policy_is_on_demand(name)
        && serve_certs_note_visit(entry, now, every < VISIT_EVERY ? every : VISIT_EVERY))
        shared_names_add(visits, manager_policy_cache_key(name, key));
}

int httpd_certificates_is_refused(const manager_policy_name_t *name)
{
    apr_time_t now = apr_time_now();

    return name->vhost != NULL && httpd_demand_known(name, now) == SHARED_REQUESTS_REFUSED
        && httpd_runtime()->certs != NULL && !is_worth_a_look(name, now);
}

/* What serves a name of one kind of key: its own certificate, else, for a name on demand, one of the wildcard
 * above it that happens to be there. */
static const serve_certs_entry_t *find_kind(const char *spelled, const char *wildcard, int rsa,
                                            apr_time_t now)
{
    const serve_certs_entry_t *entry;
    manager_policy_name_t name;

    if (!manager_policy_adopt(httpd_config_global()->policy, spelled, rsa, &name))
        return NULL;
    entry = httpd_certificates_acquire(&name, now);
    if (entry != NULL || name.vhost == NULL || wildcard == NULL)
        return entry;
    name.name = wildcard;
    return httpd_certificates_acquire(&name, now);
}

const serve_certs_entry_t *httpd_certificates_find(const char *spelled, apr_time_t now)
{
    const serve_certs_entry_t *entry = NULL;
    char buffer[BASE_HOSTNAME_SIZE];
    const char *wildcard = base_identifier_wildcard_of(buffer, spelled);
    int rsa;

    for (rsa = 0; rsa <= 1 && entry == NULL; rsa++)
        entry = find_kind(spelled, wildcard, rsa, now);
    for (rsa = 0; rsa <= 1 && entry == NULL && wildcard != NULL; rsa++)
        entry = find_kind(wildcard, NULL, rsa, now);
    return entry;
}
