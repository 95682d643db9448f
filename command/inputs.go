package command

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// walk returns the file itself or, for a directory, the directory and all that is
// below it. Symbolic links are links below a directory, and followed where they
// were named.
func (in inputFile) walk() ([]inputFile, error) {
	st, err := os.Stat(in.path)
	if err != nil || !st.IsDir() {
		return []inputFile{in}, err
	}
	var all []inputFile
	err = filepath.WalkDir(in.path, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(in.path, file)
		if err != nil {
			return err
		}
		if len(all) >= tasks.MaxInputs {
			return fmt.Errorf("%s has more than %d files; pack it into an archive", in.path, tasks.MaxInputs)
		}
		all = append(all, inputFile{path: file, name: path.Join(in.name, filepath.ToSlash(below)), below: true})
		return nil
	})
	return all, err
}

// pack makes an input of the file.
func (in inputFile) pack(spec *api.InputSpec, p *packer) error {
	spec.Name = in.name
	if in.below {
		st, err := os.Lstat(in.path)
		if err != nil {
			return err
		}
		switch {
		case st.IsDir():
			spec.Type, spec.Mode = api.TypeDir, uint32(st.Mode().Perm())
			return nil
		case st.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(in.path)
			spec.Type, spec.ContentBase64 = api.TypeSymlink, []byte(filepath.ToSlash(target))
			return err
		}
	}
	mode, err := p.file(in.path, &spec.ContentBase64, &spec.Blob)
	spec.Mode = mode
	return err
}
