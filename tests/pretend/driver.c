/* Stands in for the driver library libcuda.so.1: torch asks it whether a device has a context. None ever has. */
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = 0;
    return 0;
}

int cuGetErrorString(int error, const char **text) {
    *text = "there is no GPU, one is pretended";
    return 0;
}
