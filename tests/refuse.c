/* Watches the system calls of a process: refuses some of them, or kills the process at one.
 *
 * usage: refuse PID CALL ERRNO FIRST COUNT
 * Between close(-770001) and close(-770002) of the process (or of any of its threads), the calls of number CALL (-1: all)
 * are counted; of these, COUNT calls from the FIRST on fail with ERRNO. With ERRNO 0 the process is killed at the FIRST.
 * Says "ready", then how many calls were counted and how many of them were refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4096 };
static struct { pid_t id; int refused; } threads[MOST];
static int thread_count;

static int index_of(pid_t id) {
    for (int at = 0; at < thread_count; at++)
        if (threads[at].id == id) return at;
    if (thread_count == MOST) exit(3);
    threads[thread_count].id = id;
    threads[thread_count].refused = 0;
    return thread_count++;
}

static int seize_all(pid_t process) {
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
    char path[64];
    int found = 1;
    snprintf(path, sizeof path, "/proc/%d/task", process);
    while (found) { /* until there is no thread that is not seized */
        found = 0;
        DIR *tasks = opendir(path);
        if (!tasks) return 3; /* the process has ended */
        for (struct dirent *entry; (entry = readdir(tasks));) {
            pid_t id = atoi(entry->d_name);
            int before = thread_count;
            if (id <= 0 || index_of(id) != before) continue;
            if (ptrace(PTRACE_SEIZE, id, 0, options) == 0) {
                ptrace(PTRACE_INTERRUPT, id, 0, 0);
                found = 1;
            } else if (errno != ESRCH && id == process) { /* not permitted, or not known here */
                closedir(tasks);
                return 4;
            } else {
                thread_count = before; /* it has ended meanwhile */
            }
        }
        closedir(tasks);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    pid_t process = atoi(arguments[1]);
    long call = atol(arguments[2]), number = atol(arguments[3]);
    long first = atol(arguments[4]), last = first + atol(arguments[5]) - 1;
    long counted = 0, refused = 0;
    int armed = 0, waiting;
    int failed = seize_all(process);
    if (failed) return failed;
    waiting = thread_count;
    for (int status;;) {
        pid_t id = waitpid(-1, &status, __WALL);
        if (id < 0) {
            if (errno == EINTR) continue;
            break; /* there is none left */
        }
        if (!WIFSTOPPED(status)) continue;
        int at = index_of(id), stop = WSTOPSIG(status), send = 0;
        if (stop == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            memset(&info, 0, sizeof info);
            ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info);
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                int argument = (int)info.entry.args[0];
                if (info.entry.nr == SYS_close && argument == -770001) armed = 1;
                else if (info.entry.nr == SYS_close && argument == -770002) break;
                else if (armed && (call < 0 || (long)info.entry.nr == call)) {
                    counted++;
                    if (counted >= first && counted <= last) {
                        refused++;
                        if (number == 0) kill(process, SIGKILL);
                        else {
                            struct user_regs_struct registers;
                            ptrace(PTRACE_GETREGS, id, 0, &registers);
                            registers.orig_rax = -1;
                            ptrace(PTRACE_SETREGS, id, 0, &registers);
                            threads[at].refused = 1;
                        }
                    }
                }
            } else if (threads[at].refused) {
                struct user_regs_struct registers;
                ptrace(PTRACE_GETREGS, id, 0, &registers);
                registers.rax = -number;
                ptrace(PTRACE_SETREGS, id, 0, &registers);
                threads[at].refused = 0;
            }
        } else if (status >> 16 == PTRACE_EVENT_STOP) {
            if (waiting && --waiting == 0) {
                puts("ready");
                fflush(stdout);
            }
        } else if (status >> 16 == 0) send = stop;
        ptrace(PTRACE_SYSCALL, id, 0, send);
    }
    printf("%ld %ld\n", counted, refused);
    return 0;
}
