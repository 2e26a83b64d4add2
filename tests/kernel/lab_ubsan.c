// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves that the lab sees UBSAN reports: shifts by more than the width of the
 * type and indexes past the end of an array, inside memory the module owns, so
 * that a kernel without UBSAN is not damaged. Expected: "UBSAN: shift-out-of-
 * bounds" and "UBSAN: array-index-out-of-bounds". Unloads.
 */

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>

static struct {
	u8 array[4];
	u8 behind[4];
} lab_ubsan_memory;

static noinline u32 lab_ubsan_shift(u32 value, u32 bits)
{
	OPTIMIZER_HIDE_VAR(bits);
	return value << bits;
}

static noinline u8 lab_ubsan_index(size_t index)
{
	OPTIMIZER_HIDE_VAR(index);
	return READ_ONCE(lab_ubsan_memory.array[index]);
}

static int __init lab_ubsan_init(void)
{
	pr_info("lab_ubsan: shifted to %u, read %u\n", lab_ubsan_shift(1, 40),
		lab_ubsan_index(sizeof(lab_ubsan_memory.array) + 1));
	return 0;
}

static void __exit lab_ubsan_exit(void)
{
}

module_init(lab_ubsan_init);
module_exit(lab_ubsan_exit);

MODULE_DESCRIPTION("Lab provoker: undefined behaviour");
MODULE_LICENSE("GPL");
