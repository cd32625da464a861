/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 * What an administrator asks of a CA now and then, by hand, on a server's cache; black-box tests reach the
 * operations of src/acme through it.
 *
 *   acme_ops CACHE_DIR DIRECTORY_URL CAFILE COMMAND [ARGUMENT ...]
 *
 *   account [KID MACKEY]      find or make the account (external account binding); prints its URL
 *   roll-key                  another key for it; prints its URL
 *   obtain NAME [OLD_NAME]    order, answer no challenge, store; OLD_NAME's certificate is replaced. For CAs
 *                             that validate without looking
 *   place NAME                order only; prints the URL
 *   find NAME                 an order that is not finished; prints the URL
 *   revoke NAME REASON        by the account
 *   revoke-by-key NAME        by the certificate's key: compromised
 *   renewal-info NAME         prints "START END RETRY_AFTER EXPLANATION", seconds
 *
 * Options before COMMAND: -p PROFILE, -c CHAIN, -a ACCOUNT.pem, -e EMAIL. Log lines go to standard error.
 * Exit status: 0 done, 1 failed ("KIND TYPE: DETAIL" on standard error), 2 usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_file_io.h>
#include <apr_general.h>
#include <apr_sha1.h>
#include <apr_strings.h>
#include <openssl/evp.h>

#include "acme/authorization.h"
#include "acme/order.h"
#include "acme/order_list.h"
#include "acme/renewal_info.h"
#include "acme/revocation.h"
#include "base/log.h"
#include "cache/dir.h"
#include "crypto/bundle.h"
#include "crypto/cert.h"
#include "crypto/csr.h"

#define FILE_MAX 65536
#define LATE (24 * 3600)    /* an order found was placed within so many seconds */

typedef struct ops_t {
    apr_pool_t *pool;
    acme_client_config_t config;
    cache_t *cache;
    acme_client_t *client;
    acme_account_t *account;
    base_error_t err;
    int argc;
    char **argv;                /* of the command */
} ops_t;

typedef struct command_t {
    const char *name;
    int arguments;              /* at least */
    apr_status_t (*run)(ops_t *ops);
} command_t;

static void log_line(void *baton, int level, const char *line)
{
    (void)baton;
    fprintf(stderr, "[%d] %s\n", level, line);
}

static apr_status_t fail(ops_t *ops, const char *why)
{
    return base_error_set(&ops->err, BASE_ERROR_LOCAL, APR_EGENERAL, "%s", why);
}

static apr_status_t load_bundle(ops_t *ops, const char *name, crypto_bundle_t **bundle)
{
    char *data = NULL;
    apr_size_t len = 0;

    if (cache_get(ops->cache, AUTOCERT_CACHE_SHARED, name, &data, &len, ops->pool) != APR_SUCCESS) {
        return fail(ops, "the cache has no such name");
    }
    return crypto_bundle_parse(bundle, data, len, &ops->err);
}

static apr_status_t run_account(ops_t *ops)
{
    apr_status_t st;

    if (ops->argc > 1) {
        ops->config.eab_kid = ops->argv[0];
        ops->config.eab_key = ops->argv[1];
    }
    st = acme_account_ensure(ops->account, &ops->err);
    if (st == APR_SUCCESS) {
        printf("%s\n", acme_account_url(ops->account, ops->pool));
    }
    return st;
}

static apr_status_t run_roll(ops_t *ops)
{
    apr_status_t st = acme_account_roll_key(ops->account, &ops->err);

    if (st == APR_SUCCESS) {
        printf("%s\n", acme_account_url(ops->account, ops->pool));
    }
    return st;
}

static apr_status_t place(ops_t *ops, acme_order_t **order)
{
    acme_order_request_t wanted = { ops->argv[0], NULL };
    crypto_bundle_t *old = NULL;
    apr_status_t st = APR_SUCCESS;

    if (ops->argc > 1) {
        st = load_bundle(ops, ops->argv[1], &old);
        wanted.replaces = st == APR_SUCCESS ? crypto_cert_renewal_id(old->leaf, ops->pool) : NULL;
    }
    if (st == APR_SUCCESS) {
        st = acme_order_create(order, ops->account, &wanted, ops->pool, &ops->err);
    }
    crypto_bundle_free(old);
    return st;
}

static apr_status_t run_place(ops_t *ops)
{
    acme_order_t *order = NULL;
    apr_status_t st = place(ops, &order);

    if (st == APR_SUCCESS) {
        printf("%s\n", order->url);
    }
    return st;
}

static apr_status_t run_find(ops_t *ops)
{
    acme_order_t *order = NULL;
    apr_status_t st = acme_order_list_find(&order, ops->account, ops->argv[0],
                                           apr_time_now() - apr_time_from_sec(LATE), ops->pool, &ops->err);

    if (st == APR_NOTFOUND && ops->err.kind == BASE_ERROR_NONE) {
        return fail(ops, "no such order");
    }
    if (st == APR_SUCCESS) {
        printf("%s\n", order->url);
    }
    return st;
}

static apr_status_t validate(ops_t *ops, const char *url)
{
    const acme_authorization_challenge_t *challenge;
    acme_authorization_t *authz = NULL;
    apr_status_t st = acme_authorization_read(&authz, ops->account, url, ops->pool, &ops->err);

    if (st != APR_SUCCESS || authz->status == ACME_OBJECT_VALID) {
        return st;
    }
    challenge = acme_authorization_find_challenge(authz, "http-01");
    if (challenge == NULL) {
        return fail(ops, "no http-01");
    }
    st = acme_authorization_accept(ops->account, challenge->url, ops->pool, &ops->err);
    return st != APR_SUCCESS ? st : acme_authorization_wait(ops->account, url, "http-01", ops->pool,
                                                            &ops->err);
}

static apr_status_t store_certificate(ops_t *ops, EVP_PKEY *key, const char *pem, apr_size_t len)
{
    crypto_bundle_t *bundle = NULL;
    char *text = NULL;
    apr_status_t st = crypto_bundle_from_ca(&bundle, key, pem, len, ops->argv[0], apr_time_now(), &ops->err);

    if (st == APR_SUCCESS) {
        st = crypto_bundle_write(bundle, &text, &len, ops->pool, &ops->err);
    }
    if (st == APR_SUCCESS
        && cache_put(ops->cache, AUTOCERT_CACHE_SHARED, ops->argv[0], text, len, ops->pool) != APR_SUCCESS) {
        st = fail(ops, "the certificate cannot be stored");
    }
    crypto_bundle_free(bundle);
    return st;
}

static apr_status_t finish_order(ops_t *ops, acme_order_t *order, EVP_PKEY *key)
{
    unsigned char *csr = NULL;
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t st = acme_order_wait_ready(&order, ops->account, ops->pool, &ops->err);

    if (st == APR_SUCCESS) {
        st = crypto_csr_der(&csr, &len, key, ops->argv[0], NULL, ops->pool, &ops->err);
    }
    if (st == APR_SUCCESS) {
        st = acme_order_finalize(&order, ops->account, csr, len, ops->pool, &ops->err);
    }
    if (st == APR_SUCCESS) {
        st = acme_order_certificate(&pem, &len, order, ops->account, ops->pool, &ops->err);
    }
    return st == APR_SUCCESS ? store_certificate(ops, key, pem, len) : st;
}

static apr_status_t run_obtain(ops_t *ops)
{
    acme_order_t *order = NULL;
    EVP_PKEY *key = NULL;
    apr_status_t st = place(ops, &order);
    int i;

    for (i = 0; st == APR_SUCCESS && i < order->authorizations->nelts; i++) {
        st = validate(ops, APR_ARRAY_IDX(order->authorizations, i, const char *));
    }
    if (st == APR_SUCCESS) {
        st = crypto_key_generate(&key, CRYPTO_KEY_P256, &ops->err);
    }
    if (st == APR_SUCCESS) {
        st = finish_order(ops, order, key);
    }
    EVP_PKEY_free(key);
    return st;
}

static apr_status_t send_revocation(ops_t *ops, int by_key, int reason)
{
    crypto_bundle_t *bundle = NULL;
    apr_status_t st = load_bundle(ops, ops->argv[0], &bundle);

    if (st == APR_SUCCESS) {
        st = acme_revocation_send(ops->account, bundle->leaf, by_key ? bundle->key : NULL,
                                  (acme_revocation_reason_t)reason, ops->pool, &ops->err);
    }
    crypto_bundle_free(bundle);
    return st;
}

static apr_status_t run_revoke(ops_t *ops)
{
    return send_revocation(ops, 0, (int)strtol(ops->argv[1], NULL, 10));
}

static apr_status_t run_revoke_by_key(ops_t *ops)
{
    return send_revocation(ops, 1, ACME_REVOCATION_KEY_COMPROMISE);
}

static apr_status_t run_renewal_info(ops_t *ops)
{
    crypto_bundle_t *bundle = NULL;
    acme_renewal_info_t info;
    const char *id = NULL;
    apr_status_t st = load_bundle(ops, ops->argv[0], &bundle);

    if (st == APR_SUCCESS) {
        id = crypto_cert_renewal_id(bundle->leaf, ops->pool);
        st = id == NULL ? fail(ops, "the certificate has no authority key identifier")
                        : acme_renewal_info_fetch(&info, ops->client, id, ops->pool, &ops->err);
    }
    crypto_bundle_free(bundle);
    if (st == APR_ENOTIMPL) {
        return fail(ops, "the CA has no renewal information");
    }
    if (st == APR_SUCCESS) {
        printf("%lld %lld %lld %s\n", (long long)apr_time_sec(info.start), (long long)apr_time_sec(info.end),
               info.retry_at > 0 ? (long long)apr_time_sec(info.retry_at - apr_time_now() + 500000) : 0LL,
               info.explanation != NULL ? info.explanation : "-");
    }
    return st;
}

static const command_t commands[] = {
    { "account", 0, run_account },
    { "roll-key", 0, run_roll },
    { "obtain", 1, run_obtain },
    { "place", 1, run_place },
    { "find", 1, run_find },
    { "revoke", 2, run_revoke },
    { "revoke-by-key", 1, run_revoke_by_key },
    { "renewal-info", 1, run_renewal_info },
};

static int usage(void)
{
    fprintf(stderr, "usage: acme_ops CACHE_DIR DIRECTORY_URL CAFILE [-p PROFILE] [-c CHAIN] [-a ACCOUNT.pem] "
            "[-e EMAIL] COMMAND [ARGUMENT ...]\n");
    return 2;
}

/* As the module names the CA of a bare URL, so that both use the same account. */
static const char *make_id(const char *url, apr_pool_t *pool)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;
    const char *id = "";
    int i;

    apr_sha1_init(&sha1);
    apr_sha1_update(&sha1, url, (unsigned int)strlen(url));
    apr_sha1_final(digest, &sha1);
    for (i = 0; i < 8; i++) {
        id = apr_psprintf(pool, "%s%02x", id, digest[i]);
    }
    return id;
}

static const char *read_file(const char *path, apr_pool_t *pool)
{
    char *text = apr_pcalloc(pool, FILE_MAX);
    FILE *in = fopen(path, "r");

    if (in == NULL || fread(text, 1, FILE_MAX - 1, in) == 0) {
        fprintf(stderr, "acme_ops: %s cannot be read\n", path);
        exit(2);
    }
    fclose(in);
    return text;
}

/* @return the command, NULL when there is none */
static const command_t *read_arguments(ops_t *ops, int argc, char **argv)
{
    size_t i;
    int option;

    if (argc < 5) {
        return NULL;
    }
    ops->config.name = "ops";
    ops->config.directory_url = argv[2];
    ops->config.id = make_id(argv[2], ops->pool);
    ops->config.cafile = argv[3];
    ops->config.first = 1;
    ops->config.tos_any = 1;
    optind = 4;
    while ((option = getopt(argc, argv, "+p:c:a:e:")) != -1) {
        switch (option) {
        case 'p': ops->config.profile = optarg; break;
        case 'c': ops->config.chain = optarg; break;
        case 'a': ops->config.account_pem = read_file(optarg, ops->pool); break;
        case 'e': ops->config.email = optarg; break;
        default: return NULL;
        }
    }
    if (optind >= argc) {
        return NULL;
    }
    ops->argc = argc - optind - 1;
    ops->argv = argv + optind + 1;
    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, argv[optind]) == 0 && ops->argc >= commands[i].arguments) {
            return &commands[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {
        "none", "local", "cancelled", "busy", "ca-down", "wait", "validation", "gone", "operator", "refused"
    };
    const command_t *command;
    ops_t ops = { 0 };
    apr_status_t st;

    apr_initialize();
    apr_pool_create(&ops.pool, NULL);
    command = read_arguments(&ops, argc, argv);
    if (command == NULL) {
        return usage();
    }
    base_log_set(log_line, NULL);
    if (acme_http_init() != APR_SUCCESS
        || cache_open(&ops.cache, &cache_dir_provider, argv[1], ops.pool) != APR_SUCCESS
        || acme_client_create(&ops.client, &ops.config, NULL, apr_time_now, ops.pool) != APR_SUCCESS
        || acme_account_create(&ops.account, ops.client, ops.cache, ops.pool) != APR_SUCCESS) {
        fprintf(stderr, "acme_ops: cannot begin\n");
        return 1;
    }
    st = command->run(&ops);
    if (st != APR_SUCCESS) {
        fprintf(stderr, "%s %s: %s\n", kinds[ops.err.kind], ops.err.type, ops.err.detail);
    }
    apr_pool_destroy(ops.pool);
    apr_terminate();
    return st != APR_SUCCESS;
}
