// Package db holds the schema. It embeds the migrations, which run in the order of their numbers.
package db

import "embed"

// Migrations are the goose migrations, in the folder migrations.
//
//go:embed migrations/*.sql
var Migrations embed.FS
