# Not fastapi.py: Python would import it in place of the package.
import hashlib
import os
from datetime import date, datetime, time
from typing import Any, AsyncIterator, List, Literal, Optional

import jwt
import ujson
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import conlist, constr
from sqlalchemy import ARRAY, Text, case, func, insert, not_, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlmodel import Column, DateTime, Field, SQLModel, select

# asyncpg takes no `sslmode`. Every request is one statement: AUTOCOMMIT spares BEGIN and COMMIT.
engine = create_async_engine(
    make_url(os.environ["DATABASE_URL"])
    .set(drivername="postgresql+asyncpg")
    .difference_update_query(["sslmode"]),
    pool_size=int(os.environ.get("POOL", "10")),
    max_overflow=0,
    isolation_level="AUTOCOMMIT",
)
secret = os.environ["BETTER_AUTH_SECRET"]

Title = constr(min_length=1, max_length=200)
Priority = Literal["none", "low", "medium", "high"]
Tags = conlist(constr(min_length=1, max_length=50), max_items=20)
Instant = DateTime(timezone=True)


class NewTask(SQLModel):
    title: Title
    description: Optional[str] = Field(default=None, max_length=2000)
    completed: bool = False
    priority: Priority = "none"
    tags: Tags = []
    due_date: Optional[date] = None


class TaskChanges(SQLModel):
    title: Title = None
    description: Optional[str] = Field(default=None, max_length=2000)
    completed: bool = None
    priority: Priority = None
    tags: Tags = None
    due_date: Optional[date] = None


class TaskRead(SQLModel):
    id: Optional[int] = Field(default=None, primary_key=True)
    title: str
    description: Optional[str]
    completed: bool
    priority: str
    tags: List[str] = Field(sa_column=Column(ARRAY(Text)))
    due_date: Optional[date]
    due_time: Optional[time]
    due_timezone: Optional[str]
    due_at: Optional[datetime] = Field(sa_column=Column(Instant))
    completed_at: Optional[datetime] = Field(sa_column=Column(Instant))
    created_at: datetime = Field(sa_column=Column(Instant))
    updated_at: datetime = Field(sa_column=Column(Instant))
    version: int


class Task(TaskRead, table=True):
    __tablename__ = "tasks"
    user_id: str


columns = [Task.__table__.c[name] for name in TaskRead.__fields__]


class TaskResponse(JSONResponse):
    """Writes rows as they are: returned from a route, it spares FastAPI's encoder."""

    def render(self, content: Any) -> bytes:
        return ujson.dumps(
            content, default=lambda value: value.isoformat(), ensure_ascii=False
        ).encode()


app = FastAPI()
app.add_middleware(
    CORSMiddleware, allow_origins=["http://localhost:3000"], allow_methods=["*"], allow_headers=["*"]
)


async def open_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


Bearer = Depends(HTTPBearer(auto_error=False))


async def authenticate(credentials: Optional[HTTPAuthorizationCredentials] = Bearer) -> str:
    try:
        token = credentials.credentials if credentials else ""
        return jwt.decode(
            token, secret, algorithms=["HS256"], options={"require": ["sub", "exp"]}
        )["sub"]
    except jwt.InvalidTokenError:
        raise HTTPException(401)


TaskId = Path(ge=1, le=2**31 - 1)
UserId = Depends(authenticate)
Session = Depends(open_session)


async def answer(session: AsyncSession, statement: Any) -> TaskResponse:
    task = (await session.execute(statement)).mappings().first()
    if task is None:
        raise HTTPException(404)
    return TaskResponse(dict(task))


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/api/tasks", response_model=List[TaskRead])
async def list_tasks(
    if_none_match: Optional[str] = Header(default=None),
    user_id: str = UserId,
    session: AsyncSession = Session,
):
    found = await session.execute(
        select(*columns).where(Task.user_id == user_id).order_by(Task.created_at, Task.id)
    )
    response = TaskResponse([dict(task) for task in found.mappings()])
    etag = f'"{hashlib.md5(response.body).hexdigest()}"'
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response


@app.get("/api/tasks/{id}", response_model=TaskRead)
async def find_task(id: int = TaskId, user_id: str = UserId, session: AsyncSession = Session):
    statement = select(*columns).where(Task.id == id, Task.user_id == user_id)
    return await answer(session, statement)


@app.post("/api/tasks", response_model=TaskRead, status_code=201)
async def create_task(task: NewTask, user_id: str = UserId, session: AsyncSession = Session):
    values = {**task.dict(), "user_id": user_id}
    if task.completed:
        values["completed_at"] = func.now()
    created = await session.execute(insert(Task).values(**values).returning(*columns))
    return TaskResponse(dict(created.mappings().one()), 201)


@app.put("/api/tasks/{id}", response_model=TaskRead)
async def update_task(
    changes: TaskChanges,
    id: int = TaskId,
    user_id: str = UserId,
    session: AsyncSession = Session,
):
    values = changes.dict(exclude_unset=True)
    if "completed" in values:
        now = func.coalesce(Task.completed_at, func.now())
        values["completed_at"] = now if values["completed"] else None
    return await answer(session, change(user_id, id, values))


@app.patch("/api/tasks/{id}/complete", response_model=TaskRead)
async def toggle_task(id: int = TaskId, user_id: str = UserId, session: AsyncSession = Session):
    values = {
        "completed": not_(Task.completed),
        "completed_at": case((not_(Task.completed), func.now())),
    }
    return await answer(session, change(user_id, id, values))


def change(user_id: str, id: int, values: dict):
    return (
        update(Task)
        .where(Task.id == id, Task.user_id == user_id)
        .values(**values, version=Task.version + 1, updated_at=func.now())
        .returning(*columns)
        .execution_options(synchronize_session=False)
    )


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
