/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/directives.h
 * The command table. Handlers return NULL or a sentence that says what is wrong and what
 * to write; httpd adds file and line. What depends on more than one line is check.c's.
 */
#ifndef HTTPD_DIRECTIVES_H
#define HTTPD_DIRECTIVES_H

#include <httpd.h>
#include <http_config.h>

/** For the module record. */
extern const command_rec httpd_directives_table[];

#endif
