// Package devpostgres runs a private PostgreSQL server for development and tests, so that neither needs a
// database to be set up first. It uses the PostgreSQL of the machine and installs one only if there is none.
//
// The server listens on the loopback interface only. Durable clusters ask for a password, kept in the cluster's
// folder. Clusters that are not durable, made for tests, trust every local connection: on a machine shared with
// people you do not trust, give the tests a server of your own instead.
package devpostgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// superuser is the only role in a cluster made here.
const superuser = "app"

// Options say what cluster to run and how.
type Options struct {
	// Dir is the root of the cluster; it is created if missing.
	Dir string
	// Durable keeps every committed transaction, whatever happens. Without it the server is faster and loses data
	// when the machine (not only the process) crashes.
	Durable bool
	// Port to listen on; 0 picks a free one.
	Port int
	// BinDir is a folder with postgres and initdb. If empty, the usual places are searched.
	BinDir string
	// CacheDir is where npm installs PostgreSQL if the machine has none. If empty, npm is not tried.
	CacheDir string
	// TemplateDir, if set, keeps one pristine cluster per PostgreSQL version, so that clusters that are not durable
	// are copied from there rather than initialised: 0.1 s instead of 1 s.
	TemplateDir string
	// Logger receives what is worth knowing; nil discards it.
	Logger *slog.Logger
	// ExtraConfig are further server settings (name to value); they win over the ones made here.
	ExtraConfig map[string]string
}

// Server is a running PostgreSQL server, owned by this process.
type Server struct {
	process  *process
	done     chan struct{}
	port     int
	password string // empty: the cluster trusts local connections
}

// Start runs the cluster in o.Dir, creating it first if need be, and returns once it accepts connections.
// A PostgreSQL left over from a killed owner is stopped first; a Dir whose owner still runs is an error.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.makePathsAbsolute(); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o)
	if err != nil {
		return nil, errors.Join(err, unlock(lock))
	}
	go func() {
		<-s.process.done
		_ = unlock(lock) // only now may another process use the folder
		close(s.done)
	}()
	return s, nil
}

// start does the work of Start; the caller holds the lock on o.Dir.
func start(ctx context.Context, o Options) (*Server, error) {
	acct, err := clusterAccount()
	if err != nil {
		return nil, err
	}
	c := &cluster{log: o.Logger}
	if c.home, err = reachableDir(o.Dir, acct, o.Logger); err != nil {
		return nil, err
	}
	c.account = acct.keeping(c.dataDir())
	if err := c.checkOwner(); err != nil {
		return nil, err
	}
	if c.bin, err = locate(ctx, o, c.account, c.major()); err != nil {
		return nil, err
	}
	if err := stopStray(ctx, c.dataDir(), o.Logger); err != nil {
		return nil, err
	}
	if c.major() == 0 {
		if err := c.create(ctx, o.Durable, o.TemplateDir); err != nil {
			return nil, err
		}
	}
	return c.launch(ctx, o)
}

// URL is how to connect to a database of this server.
func (s *Server) URL(database string) string {
	user := url.User(superuser)
	if s.password != "" {
		user = url.UserPassword(superuser, s.password)
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     user,
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Done is closed when the server has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop shuts the server down, disconnecting its clients, and waits until it has ended. When ctx is over first the
// server is killed, which costs no committed data but a recovery at the next start. Stopping twice does no harm.
func (s *Server) Stop(ctx context.Context) error {
	s.process.signal(syscall.SIGINT)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		s.process.signal(syscall.SIGKILL)
		<-s.done
		return fmt.Errorf("postgres did not stop in time and was killed: %w", ctx.Err())
	}
}

// EnsureDatabase creates the database unless it exists.
func (s *Server) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("ensure database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var exists bool
	const query = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if err := conn.QueryRow(ctx, query, name).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "42P04" || pgErr.Code == "23505") {
		return nil // somebody else made it in between
	}
	return err
}

// Remove deletes a cluster that nobody uses, stopping a PostgreSQL left over in it. It fails if the owner still runs.
func Remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { _ = unlock(lock) }()
	for _, home := range []string{dir, substituteDir(dir)} {
		c := cluster{home: home}
		if err := stopStray(ctx, c.dataDir(), slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		if err := os.RemoveAll(home); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) makePathsAbsolute() error {
	if o.Dir == "" {
		return errors.New("devpostgres: Options.Dir is empty")
	}
	for _, path := range []*string{&o.Dir, &o.BinDir, &o.CacheDir, &o.TemplateDir} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	return nil
}
