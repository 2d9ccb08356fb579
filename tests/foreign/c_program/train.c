/* gcc -O2 -o train train.c; ./train STEP EPOCHS OUT: minimises x^4 - 3 x^2 + x from x = 2. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static FILE *opened(const char *out, const char *name, const char *how) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", out, name);
    return fopen(path, how);
}

int main(int count, char **words) {
    if (count != 4) return 2;
    double step = atof(words[1]), x = 2;
    int epochs = atoi(words[2]), epoch = 0;
    const char *out = words[3];
    FILE *file = opened(out, "state", "r");
    if (file) {
        if (fscanf(file, "%d %lf", &epoch, &x) != 2) return 1;
        fclose(file);
    }
    for (; epoch < epochs; epoch++) {
        file = opened(out, "begun.txt", "a");
        fprintf(file, "%d\n", epoch);
        fclose(file);
        usleep(100000);
        x -= step * (4 * x * x * x - 6 * x + 1);
        file = opened(out, "metrics.csv", "a");
        if (ftell(file) == 0) fprintf(file, "epoch,value\n");
        fprintf(file, "%d,%.17g\n", epoch, x * x * x * x - 3 * x * x + x);
        fclose(file);
        file = opened(out, "state.new", "w");
        fprintf(file, "%d %.17g\n", epoch + 1, x);
        fclose(file);
        char from[4096], to[4096];
        snprintf(from, sizeof from, "%s/state.new", out);
        snprintf(to, sizeof to, "%s/state", out);
        if (rename(from, to)) return 1;
    }
    return 0;
}
