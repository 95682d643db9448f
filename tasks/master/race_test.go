//go:build race

package master

const raced = true
