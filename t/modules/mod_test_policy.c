/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 * How another module decides which names may have a certificate: all that it needs is the installed header.
 *
 *     TestPolicyAllow SUFFIX      names that end with ".SUFFIX" may
 *     TestPolicyDeny SUFFIX       those may not, whatever the modules after it say
 */
#include <httpd.h>
#include <http_config.h>
#include <apr_optional_hooks.h>

#include <mod_autocert.h>

#include <string.h>

typedef struct config_t {
    const char *allow;
    const char *deny;
} config_t;

extern module AP_MODULE_DECLARE_DATA test_policy_module;

static void *create_config(apr_pool_t *pool, server_rec *s)
{
    (void)s;
    return apr_pcalloc(pool, sizeof(config_t));
}

static const char *set_suffix(cmd_parms *cmd, void *dir, const char *suffix)
{
    config_t *config = ap_get_module_config(cmd->server->module_config, &test_policy_module);

    (void)dir;
    *(cmd->info ? &config->deny : &config->allow) = suffix;
    return NULL;
}

static int ends_with(const char *name, const char *suffix)
{
    size_t len = strlen(name), end = suffix ? strlen(suffix) : 0;

    return suffix != NULL && len > end && name[len - end - 1] == '.' && strcmp(name + len - end, suffix) == 0;
}

static int judge(struct server_rec *s, const char *name)
{
    const config_t *config = ap_get_module_config(s->module_config, &test_policy_module);

    if (ends_with(name, config->deny))
        return HTTP_FORBIDDEN;
    return ends_with(name, config->allow) ? OK : DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    APR_OPTIONAL_HOOK(autocert, host_policy, judge, NULL, NULL, APR_HOOK_MIDDLE);
}

static const command_rec commands[] = {
    AP_INIT_TAKE1("TestPolicyAllow", set_suffix, NULL, RSRC_CONF, "suffix of names that may have a certificate"),
    AP_INIT_TAKE1("TestPolicyDeny", set_suffix, (void *)1, RSRC_CONF, "suffix of names that may not"),
    { NULL, { NULL }, NULL, 0, 0, NULL }
};

AP_DECLARE_MODULE(test_policy) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, create_config, NULL, commands, register_hooks, AP_MODULE_FLAG_NONE
};
