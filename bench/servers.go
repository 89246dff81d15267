package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a server that is measured.
type process struct {
	cmd   *exec.Cmd
	addr  string
	ready time.Duration // from its start to its first answer
}

func freeAddr(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// startServer starts the product as an operator does.
func startServer(ctx context.Context, binary, databaseURL, pepper string) (*process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "serve")
	cmd.Env = []string{
		"KEYMETER_DATABASE_URL=" + databaseURL, "KEYMETER_ADDR=" + addr, "KEYMETER_PEPPERS=1:" + pepper,
		"KEYMETER_SERVICE_TOKENS=" + serviceToken, "KEYMETER_OPERATOR_TOKENS=" + operatorToken,
	}
	return begin(ctx, cmd, addr, "GET /readyz HTTP/1.1\r\nHost: bench\r\n\r\n")
}

// startBaseline starts this program as the baselines' server.
func startBaseline(ctx context.Context, databaseURL string) (*process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "baseline", addr, databaseURL)
	return begin(ctx, cmd, addr, string(post("/fixed", "", "{}")))
}

func begin(ctx context.Context, cmd *exec.Cmd, addr, probe string) (*process, error) {
	var log bytes.Buffer
	cmd.Stderr = io.Discard
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(start) < 30*time.Second {
		if c, err := dial(ctx, addr); err == nil {
			status, _, err := c.do([]byte(probe))
			_ = c.Close()
			if err == nil && status == 200 {
				return &process{cmd: cmd, addr: addr, ready: time.Since(start)}, nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, fmt.Errorf("%s is not ready: %s", addr, log.String())
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait()
}

// rss returns the memory of the process in MB.
func (p *process) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(fields[1], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS")
}

// call makes one request and decodes its answer.
func (p *process) call(ctx context.Context, method, path, token, body string, into any) (int, error) {
	c, err := dial(ctx, p.addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		method, path, token, len(body), body)
	status, answer, err := c.do([]byte(request))
	if err != nil || into == nil {
		return status, err
	}
	return status, json.Unmarshal(answer, into)
}
