//go:build !linux

package devpostgres

import "syscall"

// endWithParent does nothing where the kernel has no such service: the next Start stops what was left over.
func endWithParent(*syscall.SysProcAttr) {}
