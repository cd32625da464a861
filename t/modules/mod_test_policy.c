/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * An example of a module that has a say in which names get certificates. It needs nothing of mod_autocert
 * but its installed header, and works in any order of LoadModule, and without mod_autocert too.
 *
 *     TestPolicyAllow SUFFIX ...      names below it may have a certificate
 *     TestPolicyDeny SUFFIX ...       they may not, whatever other modules say
 *
 * in server config or a vhost, whose lines replace the server's. A denied suffix counts more than an allowed
 * one; about other names it has no opinion.
 */

#include <string.h>

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <apr_tables.h>

#include <mod_autocert.h>

typedef struct policy_config_t {
    apr_array_header_t *allowed;        /* suffixes, const char * */
    apr_array_header_t *denied;         /* the same */
} policy_config_t;

module AP_MODULE_DECLARE_DATA test_policy_module;

static void *create_config(apr_pool_t *pool, server_rec *s)
{
    policy_config_t *config = apr_pcalloc(pool, sizeof(*config));

    (void)s;
    config->allowed = apr_array_make(pool, 0, sizeof(const char *));
    config->denied = apr_array_make(pool, 0, sizeof(const char *));
    return config;
}

static void *merge_config(apr_pool_t *pool, void *base, void *own)
{
    policy_config_t *config = own;

    (void)pool;
    return config->allowed->nelts > 0 || config->denied->nelts > 0 ? own : base;
}

static const char *add_suffix(cmd_parms *cmd, void *dir_config, const char *suffix)
{
    policy_config_t *config = ap_get_module_config(cmd->server->module_config, &test_policy_module);

    (void)dir_config;
    if (suffix[0] == '\0' || suffix[0] == '.')
        return apr_pstrcat(cmd->pool, cmd->cmd->name, ": write a suffix without a dot before it", NULL);
    APR_ARRAY_PUSH(cmd->info ? config->denied : config->allowed, const char *) = suffix;
    return NULL;
}

static int is_below(const char *name, const apr_array_header_t *suffixes)
{
    size_t all = strlen(name);

    for (int i = 0; i < suffixes->nelts; i++) {
        const char *suffix = APR_ARRAY_IDX(suffixes, i, const char *);
        size_t end = strlen(suffix);

        if (all > end && name[all - end - 1] == '.' && strcmp(name + all - end, suffix) == 0)
            return 1;
    }
    return 0;
}

/* The hook. Any thread of any child calls it, also in handshakes: it only reads what does not change. */
static int judge_name(server_rec *s, const char *name)
{
    const policy_config_t *config = ap_get_module_config(s->module_config, &test_policy_module);

    if (is_below(name, config->denied))
        return HTTP_FORBIDDEN;
    return is_below(name, config->allowed) ? OK : DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    APR_OPTIONAL_HOOK(autocert, host_policy, judge_name, NULL, NULL, APR_HOOK_MIDDLE);
}

static const command_rec commands[] = {
    AP_INIT_ITERATE("TestPolicyAllow", add_suffix, NULL, RSRC_CONF,
                    "suffixes of names that may have a certificate"),
    AP_INIT_ITERATE("TestPolicyDeny", add_suffix, (void *)1, RSRC_CONF,
                    "suffixes of names that may not"),
    { NULL, { NULL }, NULL, 0, 0, NULL }
};

AP_DECLARE_MODULE(test_policy) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, create_config, merge_config, commands, register_hooks,
    AP_MODULE_FLAG_NONE
};
