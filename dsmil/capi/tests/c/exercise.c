/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Uses every function of libdsmil as a C program would. `exercise CASE...` runs cases by name, `exercise` all of them;
 * each begins and ends without a connection. What does not hold is printed, and the program fails.
 */
#include <dsmil.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define EXPECT(expression, wanted)                                                                        \
	do {                                                                                              \
		long got_ = (long)(expression), wanted_ = (long)(wanted);                                 \
		if (got_ != wanted_) {                                                                    \
			printf("%s:%d: %s is %ld, not %ld\n", __FILE__, __LINE__, #expression, got_,      \
			       wanted_);                                                                  \
			failures++;                                                                       \
		}                                                                                         \
	} while (0)

#define POWER 0
#define SENSORS 3
#define GROUP_SIZE 12
/* The address of a device's 4 MiB, as the firmware counts. */
#define ADDRESS(group, position) (0x52000000ULL + (1 + (group) * GROUP_SIZE + (position)) * (4ULL << 20))

static void nothing_works_without_init(void)
{
	struct CDeviceInfo info = { 9, 9, 9, 9 };
	uint32_t data = 99;

	EXPECT(rust_dsmil_create_device(0, 0, &info), -ENODEV);
	EXPECT(rust_dsmil_smi_read_token(POWER, 0, &data), -ENODEV);
	EXPECT(rust_dsmil_smi_write_token(POWER, 0, 1), -ENODEV);
	EXPECT(rust_dsmil_smi_unlock_region(ADDRESS(0, 0)), -ENODEV);
	EXPECT(rust_dsmil_smi_verify(), -ENODEV);
	EXPECT(rust_dsmil_get_total_active_devices(), 0);
	EXPECT(info.group_id, 9);
	EXPECT(data, 99);
}

static void init_is_done_once(void)
{
	EXPECT(rust_dsmil_init(true), 0);
	EXPECT(rust_dsmil_init(true), -EALREADY);
	EXPECT(rust_dsmil_smi_verify(), 0);
	rust_dsmil_cleanup();
}

static void cleanup_may_be_repeated_and_init_follow_it(void)
{
	int round;

	rust_dsmil_cleanup();
	for (round = 0; round < 5; round++) {
		EXPECT(rust_dsmil_init(true), 0);
		EXPECT(rust_dsmil_smi_verify(), 0);
		rust_dsmil_cleanup();
		rust_dsmil_cleanup();
	}
}

static void null_pointers_are_refused(void)
{
	EXPECT(rust_dsmil_init(true), 0);
	EXPECT(rust_dsmil_create_device(0, 0, NULL), -EINVAL);
	EXPECT(rust_dsmil_smi_read_token(POWER, 0, NULL), -EINVAL);
	rust_dsmil_cleanup();
}

static void pointers_that_are_not_aligned_are_refused(void)
{
	union {
		uint32_t words[4];
		unsigned char bytes[16];
	} memory;
	int offset;

	memset(&memory, 0x55, sizeof(memory));
	EXPECT(rust_dsmil_init(true), 0);
	for (offset = 1; offset < 4; offset++)
		EXPECT(rust_dsmil_smi_read_token(POWER, 0, (void *)(memory.bytes + offset)), -EINVAL);
	EXPECT(memory.words[0], 0x55555555);
	EXPECT(memory.words[1], 0x55555555);
	rust_dsmil_cleanup();
}

static void devices_that_are_not_there_are_refused(void)
{
	struct CDeviceInfo info = { 9, 9, 9, 9 };

	EXPECT(rust_dsmil_init(true), 0);
	EXPECT(rust_dsmil_create_device(7, 0, &info), -EINVAL);
	EXPECT(rust_dsmil_create_device(0, 12, &info), -EINVAL);
	EXPECT(rust_dsmil_create_device(255, 255, &info), -EINVAL);
	EXPECT(info.group_id, 9);
	EXPECT(info.state, 9);
	rust_dsmil_cleanup();
}

static void all_devices_can_be_put_in_use(void)
{
	struct CDeviceInfo info;
	int group, position;

	EXPECT(rust_dsmil_init(true), 0);
	for (group = 0; group < 7; group++) {
		for (position = 0; position < GROUP_SIZE; position++) {
			memset(&info, 0xff, sizeof(info));
			EXPECT(rust_dsmil_create_device(group, position, &info), 0);
			EXPECT(info.group_id, group);
			EXPECT(info.device_id, position);
			EXPECT(info.global_id, group * GROUP_SIZE + position);
			EXPECT(info.state, 3);
		}
	}
	EXPECT(rust_dsmil_get_total_active_devices(), 84);
	/* Once more changes nothing. */
	EXPECT(rust_dsmil_create_device(6, 11, &info), 0);
	EXPECT(rust_dsmil_get_total_active_devices(), 84);
	rust_dsmil_cleanup();
}

static void tokens_are_locked_until_their_region_is_unlocked(void)
{
	uint32_t before, after;

	EXPECT(rust_dsmil_init(true), 0);
	EXPECT(rust_dsmil_smi_read_token(SENSORS, 5, &before), 0);
	EXPECT(rust_dsmil_smi_unlock_region(ADDRESS(5, 7)), 0);
	EXPECT(rust_dsmil_smi_write_token(SENSORS, 5, ~before), 0);
	EXPECT(rust_dsmil_smi_read_token(SENSORS, 5, &after), 0);
	EXPECT(after, (uint32_t)~before);
	EXPECT(rust_dsmil_smi_write_token(SENSORS, 5, before), 0);
	EXPECT(rust_dsmil_smi_write_token(POWER, 6, 1), -EACCES);
	EXPECT(rust_dsmil_smi_verify(), 0);
	rust_dsmil_cleanup();
}

static void tokens_that_are_not_there_are_refused(void)
{
	uint32_t data = 99;

	EXPECT(rust_dsmil_init(true), 0);
	EXPECT(rust_dsmil_smi_read_token(4, 0, &data), -EINVAL);
	EXPECT(rust_dsmil_smi_read_token(POWER, 7, &data), -EINVAL);
	EXPECT(rust_dsmil_smi_read_token(255, 255, &data), -EINVAL);
	EXPECT(rust_dsmil_smi_write_token(4, 0, 1), -EINVAL);
	EXPECT(rust_dsmil_smi_write_token(POWER, 7, 1), -EINVAL);
	EXPECT(data, 99);
	rust_dsmil_cleanup();
}

static void addresses_outside_the_region_are_refused(void)
{
	EXPECT(rust_dsmil_init(true), 0);
	EXPECT(rust_dsmil_smi_unlock_region(0), -EINVAL);
	EXPECT(rust_dsmil_smi_unlock_region(0x52000000ULL - 1), -EINVAL);
	EXPECT(rust_dsmil_smi_unlock_region(0x52000000ULL + (360ULL << 20)), -EINVAL);
	EXPECT(rust_dsmil_smi_unlock_region(UINT64_MAX), -EINVAL);
	/* Inside, but nobody's: the control block. */
	EXPECT(rust_dsmil_smi_unlock_region(0x52000000ULL), -EINVAL);
	rust_dsmil_cleanup();
}

static void without_smi_only_devices_work(void)
{
	struct CDeviceInfo info;
	uint32_t data;

	EXPECT(rust_dsmil_init(false), 0);
	EXPECT(rust_dsmil_create_device(1, 1, &info), 0);
	EXPECT(rust_dsmil_smi_read_token(POWER, 0, &data), -EOPNOTSUPP);
	EXPECT(rust_dsmil_smi_write_token(POWER, 0, 1), -EOPNOTSUPP);
	EXPECT(rust_dsmil_smi_unlock_region(ADDRESS(0, 0)), -EOPNOTSUPP);
	EXPECT(rust_dsmil_smi_verify(), -EOPNOTSUPP);
	rust_dsmil_cleanup();
}

static void *read_often(void *argument)
{
	uint32_t expected, data;
	long failed = 0;
	int round;

	(void)argument;
	failed += rust_dsmil_smi_read_token(POWER, 3, &expected) != 0;
	for (round = 0; round < 50; round++) {
		failed += rust_dsmil_smi_read_token(POWER, 3, &data) != 0;
		failed += data != expected;
	}
	return (void *)failed;
}

static void threads_share_the_connection(void)
{
	pthread_t threads[4];
	void *failed;
	size_t index;

	EXPECT(rust_dsmil_init(true), 0);
	for (index = 0; index < 4; index++)
		EXPECT(pthread_create(&threads[index], NULL, read_often, NULL), 0);
	for (index = 0; index < 4; index++) {
		EXPECT(pthread_join(threads[index], &failed), 0);
		EXPECT((long)failed, 0);
	}
	rust_dsmil_cleanup();
}

static void *read_until_refused(void *argument)
{
	uint32_t data;
	int code;

	(void)argument;
	do
		code = rust_dsmil_smi_read_token(POWER, 3, &data);
	while (code == 0);
	return (void *)(long)code;
}

static void cleanup_may_come_while_others_are_inside(void)
{
	pthread_t threads[4];
	void *code;
	size_t index;
	uint32_t data;

	EXPECT(rust_dsmil_init(true), 0);
	for (index = 0; index < 4; index++)
		EXPECT(pthread_create(&threads[index], NULL, read_until_refused, NULL), 0);
	for (index = 0; index < 20; index++)
		EXPECT(rust_dsmil_smi_read_token(POWER, 1, &data), 0);
	rust_dsmil_cleanup();
	for (index = 0; index < 4; index++) {
		EXPECT(pthread_join(threads[index], &code), 0);
		EXPECT((long)code, -ENODEV);
	}
}

static void a_device_that_is_not_there_is_an_error(void)
{
	static const struct {
		const char *device;
		int code;
	} wrong[] = {
		{ "sim:/no/such/simulator", -ENOENT },
		{ "unix:/no/such/server", -ENOENT },
		{ "/dev/uio4095", -ENOENT },
		{ "sim:", -EINVAL },
		{ "what is this", -EINVAL },
	};
	char *device = strdup(getenv("DSMIL_DEVICE"));
	size_t index;

	for (index = 0; index < sizeof(wrong) / sizeof(wrong[0]); index++) {
		setenv("DSMIL_DEVICE", wrong[index].device, 1);
		EXPECT(rust_dsmil_init(true), wrong[index].code);
	}
	setenv("DSMIL_DEVICE", device, 1);
	free(device);
	EXPECT(rust_dsmil_init(true), 0);
	rust_dsmil_cleanup();
}

#define CASE(name)                                                                                        \
	{                                                                                                 \
		#name, name                                                                               \
	}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	CASE(nothing_works_without_init),
	CASE(init_is_done_once),
	CASE(cleanup_may_be_repeated_and_init_follow_it),
	CASE(null_pointers_are_refused),
	CASE(pointers_that_are_not_aligned_are_refused),
	CASE(devices_that_are_not_there_are_refused),
	CASE(all_devices_can_be_put_in_use),
	CASE(tokens_are_locked_until_their_region_is_unlocked),
	CASE(tokens_that_are_not_there_are_refused),
	CASE(addresses_outside_the_region_are_refused),
	CASE(without_smi_only_devices_work),
	CASE(threads_share_the_connection),
	CASE(cleanup_may_come_while_others_are_inside),
	CASE(a_device_that_is_not_there_is_an_error),
};

int main(int count, char **names)
{
	size_t index;
	int known, name;

	for (index = 0; count == 1 && index < sizeof(cases) / sizeof(cases[0]); index++)
		cases[index].run();
	for (name = 1; name < count; name++) {
		known = 0;
		for (index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
			if (strcmp(cases[index].name, names[name]) == 0) {
				cases[index].run();
				known = 1;
			}
		}
		if (!known) {
			printf("no case is called %s\n", names[name]);
			failures++;
		}
	}
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
