package devpostgres

import "syscall"

// endWithParent makes the kernel shut the server down when its owner dies, however it dies.
// The signal follows the thread that started the process, so that thread has to live as long.
func endWithParent(attr *syscall.SysProcAttr) {
	attr.Pdeathsig = syscall.SIGINT
}
