/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/step.h
 * Places in an order where the test of "killed at any moment" stops the process. Nothing at all unless the
 * build defines AUTOCERT_STEPS (variant "steps" of the Makefile), which no installed module does.
 *
 * In such a build the environment variable AUTOCERT_STEP, "NUMBER:FILE", names the step: whoever gets
 * there first makes the file and goes no further.
 */
#ifndef BASE_STEP_H
#define BASE_STEP_H

/** The steps, in the order in which an order without incidents meets them. */
typedef enum {
    BASE_STEP_LOCKED = 1,       /* the name is locked, nothing is done yet */
    BASE_STEP_KEY_MADE,         /* an account key is stored, the CA does not know it */
    BASE_STEP_REGISTERED,       /* the CA made the account, its URL is not stored */
    BASE_STEP_INTENDED,         /* certificate key and intention are stored, no order is placed */
    BASE_STEP_PLACED,           /* the CA has the order, its URL is not stored */
    BASE_STEP_SAVED,            /* the order's URL is stored */
    BASE_STEP_PUBLISHED,        /* the challenge can be answered */
    BASE_STEP_ASKING,           /* about to ask the CA to validate; that is stored */
    BASE_STEP_ASKED,            /* the CA was asked */
    BASE_STEP_AUTHORIZED,       /* the authorization is valid, the answer still published */
    BASE_STEP_READY,            /* the order is ready */
    BASE_STEP_FINALIZED,        /* the CA issued */
    BASE_STEP_DOWNLOADED,       /* the chain is here, in memory */
    BASE_STEP_STORED,           /* the certificate is in the cache */
    BASE_STEP_NOTED,            /* the ledger knows */
    BASE_STEP_FORGOTTEN,        /* the saved order is removed */
    BASE_STEP_END
} base_step_t;

#ifdef AUTOCERT_STEPS
/** Stop here for ever when this is the step that the environment names. Any thread. */
void base_step(base_step_t step);
#else
#define base_step(step) ((void)0)
#endif

#endif
