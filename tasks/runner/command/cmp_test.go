package command_test
import ("testing";"os/exec";"bytes";"syscall";"time";"sync";"sort";"fmt";"context"
"github.com/scagent/scagent/tasks/runner/process"
"github.com/scagent/scagent/tasks/runner/command"
"github.com/scagent/scagent/tasks/runner/workdir"
"github.com/scagent/scagent/tasks")
func TestCmp(t *testing.T){
 pool,_:=process.OpenCgroups(); defer pool.Close()
 env:=[]string{"PATH=/usr/bin:/bin","A=b"}
 ex:=func(){var o,e bytes.Buffer; c:=exec.Command("/bin/true"); c.Env,c.Stdout,c.Stderr=env,&o,&e; c.SysProcAttr=&syscall.SysProcAttr{Setpgid:true}; c.Run()}
 root:=t.TempDir()+"/w"
 var n uint32; var mu sync.Mutex
 mk:=func(p *process.Cgroups)func(){ r,_:=command.New(command.Config{Root:root,Cgroups:p}); return func(){mu.Lock();n++;k:=n;mu.Unlock();var o,e bytes.Buffer; a:=tasks.Attempt{Task:&tasks.Task{Argv:[]string{"/bin/true"}},ID:tasks.ID{1},N:k,Stdout:&o,Stderr:&e}; if out:=r.Run(context.Background(),&a);out.Code!=0{panic(out)}}}
 wd:=func(){mu.Lock();n++;k:=n;mu.Unlock();a:=tasks.Attempt{Task:&tasks.Task{},ID:tasks.ID{1},N:k}; d,_:=workdir.Create(root,&a); d.Env(&a); d.Remove()}
 pr:=func(p *process.Cgroups)func(){return func(){var o,e bytes.Buffer; process.Run(context.Background(),&process.Spec{Argv:[]string{"/bin/true"},Env:env,Stdout:&o,Stderr:&e,Cgroups:p})}}
 fs:=[]func(){ex,pr(nil),pr(pool),mk(nil),mk(pool),wd}; names:=[]string{"exec","process","process+cgroup","command","command+cgroup","workdir only"}
 wall:=make([][]float64,6)
 for r:=0;r<31;r++{ for i,f:=range fs { t0:=time.Now(); var wg sync.WaitGroup
  for range 2 {wg.Go(func(){for range 100 {f()}})}; wg.Wait(); wall[i]=append(wall[i],float64(time.Since(t0).Microseconds())/200)}}
 for i:=range fs { sort.Float64s(wall[i]); fmt.Printf("%s wall med %.0f min %.0f us (%.0f/s)\n",names[i],wall[i][15],wall[i][0],1e6/wall[i][15])}
}
