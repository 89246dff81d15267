package main

import (
	"context"
	"crypto/sha256"
	"io"
	"net"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
)

// fixedAnswer is about as long as what a verify answers.
const fixedAnswer = `{"valid":true,"code":"valid","keyId":"key_01JA2Z3V4W5X6Y7Z8A9B0C1D2E","accountId":"acct_01JA2Z3V4W5X6Y7Z8A9B0C1D2E","tier":"pro","eventId":"evt_1","credits":1,"duplicate":false,"remaining":100000}`

// baseline serves what the product is compared to: bare handlers that do the least that a user would have to.
func baseline(ctx context.Context, addr, databaseURL string) error {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	cfg.MaxConns = 20 // as the server's
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	b := &bare{pool: pool}
	e.POST("/fixed", b.fixed)
	e.POST("/select", b.selectKey)
	e.POST("/insert", b.insertKey)
	e.POST("/spend", b.spend)
	var lc net.ListenConfig
	if e.Listener, err = lc.Listen(ctx, "tcp", addr); err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		_ = e.Close()
	}()
	return e.Start("")
}

type bare struct{ pool *pgxpool.Pool }

func answer(c echo.Context) error {
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, []byte(fixedAnswer))
}

// fixed reads the body and answers a fixed JSON.
func (b *bare) fixed(c echo.Context) error {
	if _, err := io.ReadAll(c.Request().Body); err != nil {
		return err
	}
	return answer(c)
}

// selectKey looks a key up by the hash of the body.
func (b *bare) selectKey(c echo.Context) error {
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	var id string
	err = b.pool.QueryRow(c.Request().Context(), `SELECT id FROM bare_keys WHERE hash = $1`, hash[:]).Scan(&id)
	if err != nil {
		return err
	}
	return answer(c)
}

// insertKey inserts a row like a key's and commits.
func (b *bare) insertKey(c echo.Context) error {
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	_, err = b.pool.Exec(c.Request().Context(), `INSERT INTO bare_keys (hash, id, name) VALUES ($1, $2, 'Default')`, hash[:], string(body))
	if err != nil {
		return err
	}
	return answer(c)
}

// spend is one transaction a call: a conditional update of the balance and the event.
func (b *bare) spend(c echo.Context) error {
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO bare_events (id, credits) VALUES ($1, 1)`, string(body)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE bare_balances SET used = used + 1 WHERE id = 1 AND used + 1 <= granted`)
		return err
	})
	if err != nil {
		return err
	}
	return answer(c)
}
