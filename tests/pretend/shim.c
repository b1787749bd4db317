/* Loaded before torch's own libraries: c10 then counts one GPU where there is none.
 *
 * The count begins at 0, so that torch is imported as on any machine without a GPU; pretended_device.py raises it. The names
 * are those of c10::cuda::device_count() and c10::cuda::device_count_ensure_non_zero().
 */
#include <stdint.h>

int pretended_gpus = 0;

int8_t device_count(void) __asm__("_ZN3c104cuda12device_countEv");
int8_t device_count(void) { return (int8_t)pretended_gpus; }

int8_t device_count_ensure_non_zero(void) __asm__("_ZN3c104cuda26device_count_ensure_non_zeroEv");
int8_t device_count_ensure_non_zero(void) { return 1; }
