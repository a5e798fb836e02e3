/* cmocka with the headers that it requires before its own. */
#ifndef CKPT_CMOCKA_ALL_H
#define CKPT_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
